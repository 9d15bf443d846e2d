#include "dropout.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "espalier/base/random.h"
#include "espalier/ops/parallel_for.h"

namespace espalier::lora {

namespace {

// Sixteen bits an element: the share is met to within 1/65536, and one block serves eight.
constexpr std::int64_t kPerBlock = 8;

/// Calls write(element, draw) for the elements [first, first + count), in order.
template <class Write>
void draw_run(const CounterRandom& random, std::int64_t first, std::int64_t count,
              const Write& write) {
  std::int64_t element = first;
  while (element < first + count) {
    const std::int64_t block = element / kPerBlock;
    const std::array<std::uint32_t, 4> bits = random.block(static_cast<std::uint64_t>(block));
    const std::int64_t end = std::min(first + count, (block + 1) * kPerBlock);
    for (; element < end; ++element) {
      const std::int64_t i = element % kPerBlock;
      write(element, (bits[static_cast<std::size_t>(i / 2)] >> (i % 2 * 16)) & 0xffff);
    }
  }
}

}  // namespace

at::Tensor dropout_mask(const at::Tensor& like, double share, const PassPosition& position,
                        const std::string& site, const AxisShare* columns) {
  at::Tensor mask = at::empty(like.sizes(), at::TensorOptions().dtype(at::kFloat));
  const auto dropped = static_cast<std::uint32_t>(std::lround(share * 65536.0));
  const auto kept = static_cast<float>(1.0 / (1.0 - share));
  const CounterRandom random(position.seed ^ hash_text(site),
                             (static_cast<std::uint64_t>(position.step) << 20) |
                                 static_cast<std::uint64_t>(position.micro_batch));
  float* data = mask.data_ptr<float>();
  const auto factor = [&](std::uint32_t draw) { return draw < dropped ? 0.0F : kept; };
  if (columns == nullptr) {
    constexpr std::int64_t kGrain = 8192;
    ops::parallel_for(0, mask.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      draw_run(random, begin, end - begin,
               [&](std::int64_t element, std::uint32_t draw) { data[element] = factor(draw); });
    });
  } else {
    const std::int64_t held = columns->count();
    ops::parallel_for(0, mask.size(0), 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        float* place = data + row * held;
        for (const IndexRun& run : columns->runs) {
          draw_run(random, row * columns->size + run.begin, run.count,
                   [&](std::int64_t, std::uint32_t draw) { *place++ = factor(draw); });
        }
      }
    });
  }
  return mask.to(like.device(), like.scalar_type());
}

}  // namespace espalier::lora

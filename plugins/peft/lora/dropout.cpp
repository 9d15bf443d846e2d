#include "dropout.h"

#include <ATen/ops/empty.h>

#include <array>
#include <cmath>

#include "espalier/base/random.h"
#include "espalier/ops/parallel_for.h"

namespace espalier::lora {

at::Tensor dropout_mask(const at::Tensor& like, double share, const PassPosition& position,
                        const std::string& site) {
  at::Tensor mask = at::empty(like.sizes(), at::TensorOptions().dtype(at::kFloat));
  // Sixteen bits an element: the share is met to within 1/65536, and one block serves eight.
  constexpr std::int64_t kPerBlock = 8;
  const auto dropped = static_cast<std::uint32_t>(std::lround(share * 65536.0));
  const auto kept = static_cast<float>(1.0 / (1.0 - share));
  const CounterRandom random(position.seed ^ hash_text(site),
                             (static_cast<std::uint64_t>(position.step) << 20) |
                                 static_cast<std::uint64_t>(position.micro_batch));
  float* data = mask.data_ptr<float>();
  const std::int64_t count = mask.numel();
  const std::int64_t blocks = (count + kPerBlock - 1) / kPerBlock;
  ops::parallel_for(0, blocks, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::array<std::uint32_t, 4> bits = random.block(static_cast<std::uint64_t>(b));
      const std::int64_t first = b * kPerBlock;
      for (std::int64_t i = 0; i < kPerBlock && first + i < count; ++i) {
        const std::uint32_t draw = (bits[static_cast<std::size_t>(i / 2)] >> (i % 2 * 16)) & 0xffff;
        data[first + i] = draw < dropped ? 0.0F : kept;
      }
    }
  });
  return mask.to(like.device(), like.scalar_type());
}

}  // namespace espalier::lora

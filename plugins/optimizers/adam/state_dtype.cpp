#include "state_dtype.h"

#include <ATen/TensorOperators.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/random.h"
#include "espalier/ops/parallel_for.h"

namespace espalier {
namespace {

constexpr std::int64_t kElementsAtOnce = 1 << 20;
constexpr std::int64_t kElementsAThread = 1 << 14;

/// A finaliser of splitmix64 (Steele et al. 2014): every bit of the key changes half of the result.
std::uint64_t mixed(std::uint64_t key) {
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9U;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebU;
  return key ^ (key >> 31);
}

}  // namespace

void round_by_chance(const at::Tensor& values, std::uint64_t key, std::int64_t first,
                     const at::Tensor& out) {
  const float* in = values.const_data_ptr<float>();
  auto* rounded = out.data_ptr<at::BFloat16>();
  ops::parallel_for(0, values.numel(), kElementsAThread, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      auto bits = std::bit_cast<std::uint32_t>(in[i]);
      const auto element = static_cast<std::uint64_t>(first + i);
      if (std::isfinite(in[i]))
        bits += static_cast<std::uint32_t>(mixed(key + element * 0x9e3779b97f4a7c15U) & 0xffffU);
      rounded[i] = at::BFloat16(static_cast<std::uint16_t>(bits >> 16), at::BFloat16::from_bits());
    }
  });
}

void update_in_float(OptimizerUpdate& update,
                     const std::function<void(OptimizerUpdate& part)>& update_part) {
  for (std::size_t i = 0; i < update.parameters.size(); ++i) {
    const at::Tensor& parameter = update.parameters[i];
    if (!parameter.is_cpu()) {
      throw Error(Problem{ErrorCode::kUnsupported, "this state_dtype is for CPUs",
                          parameter.device().str(), "cpu", "optimizer.state_dtype",
                          "leave it out, or take an optimizer with 8-bit state"});
    }
    const at::Tensor gradient = update.gradients[i].contiguous().view({-1});
    const std::uint64_t key =
        mixed(hash_text(update.specs[i]->name) + static_cast<std::uint64_t>(update.step));
    for (std::int64_t begin = 0; begin < parameter.numel(); begin += kElementsAtOnce) {
      const std::int64_t count = std::min(kElementsAtOnce, parameter.numel() - begin);
      const auto part_of = [&](const at::Tensor& tensor) {
        return tensor.view({-1}).narrow(0, begin, count);
      };
      OptimizerUpdate part;
      part.step = update.step;
      part.lr = update.lr;
      part.weight_decay = update.weight_decay;
      part.specs = {update.specs[i]};
      part.parameters = {part_of(parameter).to(at::kFloat)};
      part.gradients = {part_of(gradient).to(at::kFloat)};
      for (const auto& state : update.states)
        part.states.push_back({part_of(state[i]).to(at::kFloat)});
      update_part(part);
      if (parameter.scalar_type() != at::kFloat) part_of(parameter).copy_(part.parameters[0]);
      for (std::size_t s = 0; s < update.states.size(); ++s) {
        const at::Tensor stored = part_of(update.states[s][i]);
        if (stored.scalar_type() == at::kBFloat16)
          round_by_chance(part.states[s][0], mixed(key + s + 1), begin, stored);
      }
    }
  }
}

}  // namespace espalier

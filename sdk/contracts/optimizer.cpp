#include "espalier/sdk/optimizer.h"

#include <ATen/ops/zeros.h>

#include "espalier/base/error.h"

namespace espalier {

OptimizerStateSpec Optimizer::state_of(const OptimizerStateSpec& spec, const ParameterSpec&) const {
  return spec;
}

OptimizerNeed Optimizer::need_of(const ParameterSpec&) const { return need(); }

void Optimizer::to_eval_point(OptimizerUpdate&) {}

std::vector<std::int64_t> state_shape(const OptimizerStateSpec& state, at::IntArrayRef sizes) {
  std::vector<std::int64_t> shape = sizes.vec();
  switch (state.layout) {
    case OptimizerStateSpec::Layout::kLikeParameter: return shape;
    case OptimizerStateSpec::Layout::kRows:
      ESPALIER_ASSERT(!shape.empty(), "a state of rows belongs to a parameter with dimensions");
      shape.pop_back();
      return shape;
    case OptimizerStateSpec::Layout::kColumns:
      ESPALIER_ASSERT(shape.size() >= 2, "a state of columns belongs to a matrix");
      shape.erase(shape.end() - 2);
      return shape;
    case OptimizerStateSpec::Layout::kBlocks: {
      ESPALIER_ASSERT(state.block_size > 0, "a state of blocks has a block size");
      std::int64_t elements = 1;
      for (const std::int64_t size : sizes) elements *= size;
      return {(elements + state.block_size - 1) / state.block_size};
    }
    case OptimizerStateSpec::Layout::kScalar:
    case OptimizerStateSpec::Layout::kNone: break;
  }
  return {};
}

at::Tensor make_state(const OptimizerStateSpec& state, const at::Tensor& value) {
  if (state.layout == OptimizerStateSpec::Layout::kNone) return {};
  return at::zeros(state_shape(state, value.sizes()),
                   value.options().dtype(state.dtype.value_or(value.scalar_type())));
}

}  // namespace espalier

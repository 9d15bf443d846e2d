// What the bindings of this pack share: from tensors to the arguments of kernels, and rows over
// threads.
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>

#include "espalier/ops/op.h"
#include "espalier/ops/parallel_for.h"
#include "kernels.h"

namespace espalier::cpu {

inline constexpr int kPriority = 100;
/// Below it another thread costs more than it does.
inline constexpr std::int64_t kElementsPerTask = 16384;

inline bool is_computed(const at::Tensor& tensor) {
  return tensor.is_cpu() &&
         (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16);
}

inline Type type_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? Type::kFloat : Type::kBf16;
}

/// `tensor` as rows whose elements lie side by side; the rows themselves may lie apart.
inline at::Tensor as_rows(const at::Tensor& tensor) {
  const bool rows = tensor.dim() == 2 && (tensor.stride(1) == 1 || tensor.size(1) == 1);
  return rows ? tensor : tensor.reshape({-1, tensor.size(-1)}).contiguous();
}

inline std::int64_t row_stride(const at::Tensor& rows) { return rows.stride(0); }

inline at::Tensor empty_floats(std::int64_t size) {
  return at::empty({size}, at::TensorOptions().dtype(at::kFloat));
}

/// Runs `kernel` over `rows` of `columns` elements, on all threads where it is worth it.
template <class Arguments>
void over_rows(void (*kernel)(const Arguments&, std::int64_t, std::int64_t),
               const Arguments& arguments, std::int64_t rows, std::int64_t columns) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementsPerTask / std::max<std::int64_t>(1, columns));
  ops::parallel_for(0, rows, grain,
                    [&](std::int64_t begin, std::int64_t end) { kernel(arguments, begin, end); });
}

ops::OpImplementation low_rank_update(const Kernels& kernels);

}  // namespace espalier::cpu

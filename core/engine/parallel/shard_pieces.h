#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// The part of a tensor from `offset` on, of size `extent`; a view.
at::Tensor box(const at::Tensor& tensor, const std::vector<std::int64_t>& offset,
               const std::vector<std::int64_t>& extent);

/// Puts what a rank holds of `whole`, by its layout, into `local`.
void copy_pieces(const at::Tensor& whole, const ParameterLayout& layout, const at::Tensor& local);

}  // namespace espalier

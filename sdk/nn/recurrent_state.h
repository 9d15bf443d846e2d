#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/nn/causal_convolution.h"
#include "espalier/ops/selective_scan.h"
#include "espalier/sdk/model.h"

namespace espalier::nn {

/// The convolution over the documents of a batch, which go on from the cache where there is one:
/// x [tokens, channels] -> same shape.
ESPALIER_API at::Tensor convolve_documents(const CausalConvolution& convolution,
                                           const at::Tensor& x, const BatchContext& context,
                                           std::int64_t layer);

/// The scan over the documents of a batch, likewise: -> y [tokens, heads, channels].
ESPALIER_API at::Tensor scan_documents(ops::ScanInputs inputs, const BatchContext& context,
                                       std::int64_t layer);

}  // namespace espalier::nn

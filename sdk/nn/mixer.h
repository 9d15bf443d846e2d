#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/sdk/model.h"

namespace espalier::nn {

/// One half of a decoder layer: what mixes tokens (attention) or channels (an MLP, experts).
class ESPALIER_API Mixer {
 public:
  Mixer() = default;
  Mixer(const Mixer&) = delete;
  Mixer& operator=(const Mixer&) = delete;
  virtual ~Mixer();

  /// hidden [tokens, embed], normed as the layer does -> [tokens, embed], not yet added to the
  /// residual stream. What later blocks or the loss need besides is added to `carried`.
  virtual at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                             CarriedTensors& carried) = 0;
};

}  // namespace espalier::nn

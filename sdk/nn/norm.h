#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "espalier/nn/module_scope.h"

namespace espalier::nn {

enum class NormKind { kRms, kLayer };

struct NormSpec {
  NormKind kind = NormKind::kRms;
  double eps = 1e-6;
  bool bias = false;           ///< LayerNorm only
  double weight_offset = 0.0;  ///< 1 for families that store w - 1 (gemma)
};

/// RMSNorm or LayerNorm over the last dimension: x [..., size] -> same shape and dtype.
class ESPALIER_API Norm {
 public:
  Norm(ModuleScope scope, const NormSpec& spec, Dimension size);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  NormSpec spec_;
  std::shared_ptr<Parameter> weight_;
  std::shared_ptr<Parameter> bias_;
};

}  // namespace espalier::nn

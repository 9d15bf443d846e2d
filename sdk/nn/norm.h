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
  bool affine = true;          ///< false: no parameters; LayerNorm only
};

/// RMSNorm or LayerNorm over the last dimension: x [..., size] -> same shape and dtype.
class ESPALIER_API Norm {
 public:
  Norm(ModuleScope scope, const NormSpec& spec, Dimension size);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  NormSpec spec_;
  std::shared_ptr<Parameter> weight_;  ///< nullptr without parameters
  std::shared_ptr<Parameter> bias_;
};

/// LayerNorm without a bias over the channels of each head, every head with weights of its own:
/// x [tokens, heads, head_dim] -> same shape and dtype, computed in float32. The weight is
/// [heads, head_dim]. A name with "{}" is that of head "{}": one tensor a head on disk.
class ESPALIER_API PerHeadNorm {
 public:
  PerHeadNorm(ModuleScope scope, const std::string& name, double eps, Dimension heads,
              std::int64_t head_dim);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  double eps_;
  std::shared_ptr<Parameter> weight_;
};

}  // namespace espalier::nn

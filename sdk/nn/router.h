#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "espalier/nn/module_scope.h"
#include "espalier/nn/moe_spec.h"

namespace espalier::nn {

/// Which experts each token goes to.
struct Routing {
  at::Tensor experts;  ///< [tokens, k] int64
  at::Tensor weights;  ///< [tokens, k], with gradient
  at::Tensor logits;   ///< [tokens, experts], with gradient
};

/// Chooses experts from the hidden states: hidden [tokens, embed] -> Routing. Fedus et al. 2021,
/// "Switch Transformers"; DeepSeek-AI 2024, "DeepSeek-V3", for groups and the correction bias.
class ESPALIER_API Router {
 public:
  Router(ModuleScope scope, const RouterSpec& spec, std::int64_t hidden_size,
         double initial_standard_deviation);

  Routing route(const at::Tensor& hidden) const;
  const RouterSpec& spec() const { return spec_; }

 private:
  at::Tensor choose_by_sigmoid(const at::Tensor& scores) const;

  RouterSpec spec_;
  std::shared_ptr<Parameter> weight_;
  std::shared_ptr<Parameter> bias_;
  std::shared_ptr<Parameter> correction_;
};

}  // namespace espalier::nn

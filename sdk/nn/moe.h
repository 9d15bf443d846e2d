#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/nn/decoder_block.h"
#include "espalier/nn/expert_dispatcher.h"
#include "espalier/nn/expert_linear.h"
#include "espalier/nn/mlp.h"
#include "espalier/nn/moe_spec.h"
#include "espalier/nn/router.h"

namespace espalier::nn {

/// A mixture of experts in the place of an MLP, with the MLP that sees every token where the family
/// has one: hidden [tokens, embed] -> [tokens, embed]. In training the routing is added up in
/// `carried`, for routing_terms.
class ESPALIER_API MoeMlp final : public Mixer {
 public:
  MoeMlp(const ModuleScope& scope, const DecoderSpec& spec, const MoeSpec& moe);
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                     CarriedTensors& carried) override;

 private:
  at::Tensor run_experts(const at::Tensor& rows, const at::Tensor& offsets) const;

  ops::Activation activation_;
  std::optional<ClampedSwiglu> clamped_;
  bool gated_;
  bool balanced_;  ///< probabilities are needed for the load-balancing loss
  std::unique_ptr<Router> router_;
  std::unique_ptr<Linear> latent_in_;
  std::unique_ptr<Linear> latent_out_;
  std::unique_ptr<ExpertLinear> up_;  ///< with the gate's rows first, where experts have one
  std::unique_ptr<ExpertLinear> down_;
  std::unique_ptr<Mlp> shared_;
  std::unique_ptr<Linear> shared_gate_;
  std::shared_ptr<ExpertDispatcher> dispatcher_;
};

/// What the routing of a forward pass in training adds to the model's output: the load-balancing
/// loss "aux_loss" of Fedus et al. 2021, equations 4 to 6, over all layers together as transformers
/// has it (where `moe.auxiliary_weight` is not 0), and how even the load was: "expert_load_max",
/// the tokens of the busiest expert of a layer over the mean, and "experts_idle", the share of
/// experts without a token. Empty when no layer recorded its routing.
ESPALIER_API std::vector<AuxiliaryTerm> routing_terms(const CarriedTensors& carried,
                                                      const MoeSpec& moe, std::int64_t tokens);

/// The parts of a decoder with `moe` in the layers that it serves and the usual MLP in the others.
ESPALIER_API DecoderParts parts_with_experts(MoeSpec moe);

}  // namespace espalier::nn

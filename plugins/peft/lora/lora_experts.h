#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "dropout.h"
#include "espalier/nn/expert_linear.h"
#include "lora_config.h"

namespace espalier::lora {

/// The low-rank updates of one projection of all experts of a layer: W_e + scale B_e A_e. Tensors
/// are those of PEFT's target_parameters: A [experts * r, in], expert by expert, and B [out, r *
/// experts], in which the number of the expert runs fastest.
class LoraExperts final : public nn::ExpertLinearExtension {
 public:
  /// `depth` counts further adapted projections of the same module that PEFT wraps around this one.
  LoraExperts(nn::ExpertLinear& linear, const LoraSettings& settings, std::size_t depth,
              std::shared_ptr<const AdapterState> state);

  at::Tensor apply(const nn::ExpertLinear& linear, const at::Tensor& input,
                   const at::Tensor& offsets, at::Tensor output) override;
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {a_, b_}; }

  const std::string& name() const { return linear_.name(); }
  /// A random, B zero.
  void initialise(const LoraSettings& settings, std::uint64_t seed);
  /// Adds `sign` times the updates to the weight.
  void merge(double sign) const;

 private:
  at::Tensor a_of_experts() const;  ///< [experts, r, in]
  at::Tensor b_of_experts() const;  ///< [experts, out, r]

  nn::ExpertLinear& linear_;
  std::shared_ptr<const AdapterState> state_;
  std::int64_t experts_;
  double scale_;
  std::shared_ptr<Parameter> a_;
  std::shared_ptr<Parameter> b_;
};

/// Extends the projections that `settings.target_parameters` name, module by module. Throws
/// Error(kBadInput) for a name that matches nothing, a rank that does not fit, and settings that
/// do not go with experts.
std::vector<std::shared_ptr<LoraExperts>> extend_experts(
    Model& model, const LoraSettings& settings, const std::shared_ptr<const AdapterState>& state);

}  // namespace espalier::lora

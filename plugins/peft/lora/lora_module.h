#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dropout.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/peft/adapter_files.h"
#include "lora_config.h"

namespace espalier::lora {

using peft::kTensorPrefix;

/// The low-rank update of one module (Hu et al. 2021, "LoRA"; Liu et al. 2024, "DoRA"). In terms of
/// the matrix M [out, in] of the module (W of a linear, W^T of an embedding [rows, embed]):
///   LoRA:  M + scale B A
///   DoRA:  (magnitude / n) (M + scale B A),  n = norms of the rows of M + scale B A, a constant in
///          the backward pass
/// Base of the two extensions below.
class LoraModule {
 public:
  LoraModule(const Target& target, const LoraSettings& settings,
             std::shared_ptr<const AdapterState> state);
  LoraModule(const LoraModule&) = delete;
  LoraModule& operator=(const LoraModule&) = delete;
  virtual ~LoraModule() = default;

  const std::string& name() const { return target_.name; }
  /// On a linear; otherwise on an embedding.
  bool is_linear() const { return target_.linear != nullptr; }
  const std::shared_ptr<Parameter>& weight() const;
  double scale() const { return scale_; }
  bool has_magnitude() const { return magnitude_ != nullptr; }
  /// A [r, in], B [out, r], and with DoRA the magnitude [out].
  std::vector<std::shared_ptr<Parameter>> tensors() const;
  const std::shared_ptr<Parameter>& a() const { return a_; }
  const std::shared_ptr<Parameter>& b() const { return b_; }

  /// New values; with DoRA the weight has to have its own. A linear starts with A random and B
  /// zero, an embedding the other way round, as in PEFT.
  void initialise(const LoraSettings& settings, std::uint64_t seed);

  /// M in float32, [out, in].
  at::Tensor matrix() const;
  /// The weight that has the update in it, for M `matrix`, in float32.
  at::Tensor merged(const at::Tensor& matrix) const;
  /// A value of the weight as M.
  at::Tensor to_matrix(const at::Tensor& weight) const { return is_linear() ? weight : weight.t(); }
  /// The inverse, in the dtype of the weight.
  at::Tensor to_weight(const at::Tensor& matrix) const;

 protected:
  const LoraSettings& settings() const { return settings_; }
  const AdapterState& state() const { return *state_; }
  bool drops() const { return state_->position.training && settings_.dropout > 0; }
  /// Over inputs or outputs of a linear.
  at::Tensor mask(const at::Tensor& like, nn::LinearSide side) const {
    const bool shared = share_.axis.ranks != nullptr && share_.side == side;
    return dropout_mask(like, settings_.dropout, state_->position, name(),
                        shared ? &share_.axis : nullptr);
  }
  const nn::LinearShare& share() const { return share_; }
  void keep_share(const nn::LinearShare& share);
  /// magnitude / n, [out] float32.
  at::Tensor magnitude_factor() const;

 private:
  at::Tensor row_norms() const;
  at::Tensor squared_row_norms(const at::Tensor& a, const at::Tensor& b) const;

  Target target_;
  LoraSettings settings_;
  std::shared_ptr<const AdapterState> state_;
  double scale_;
  std::shared_ptr<Parameter> a_;
  std::shared_ptr<Parameter> b_;
  std::shared_ptr<Parameter> magnitude_;
  mutable at::Tensor squared_norms_;  ///< of the rows of M; the weight is frozen
  nn::LinearShare share_;             ///< without ranks where the process has the whole module
};

class LoraLinear final : public LoraModule, public nn::LinearExtension {
 public:
  using LoraModule::LoraModule;
  at::Tensor apply(const nn::Linear& linear, const at::Tensor& input, at::Tensor output) override;
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return tensors(); }
  std::string undivided(nn::LinearSide) const override { return {}; }
  std::optional<std::size_t> dimension_along(nn::LinearSide side,
                                             const Parameter& parameter) const override;
  void set_share(const nn::LinearShare& share) override { keep_share(share); }

 private:
  /// The bias that `apply` finds in the output; undefined where there is none.
  at::Tensor bias_in_output(const nn::Linear& linear, const at::Tensor& like) const;
  at::Tensor apply_dora(const nn::Linear& linear, const at::Tensor& input, at::Tensor output);
};

/// New values of a matrix A [rank, in], float32.
at::Tensor start_of_a(const Parameter& a, const std::string& init, std::uint64_t seed);

/// Without dropout, as in PEFT.
class LoraEmbedding final : public LoraModule, public nn::EmbeddingExtension {
 public:
  using LoraModule::LoraModule;
  at::Tensor apply(const nn::Embedding& embedding, const at::Tensor& ids,
                   at::Tensor output) override;
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return tensors(); }
};

}  // namespace espalier::lora

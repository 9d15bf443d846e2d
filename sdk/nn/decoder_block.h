#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/mixer.h"
#include "espalier/nn/norm.h"

namespace espalier::nn {

/// What a family builds itself where the spec can't say it. Empty functions: the usual parts.
struct DecoderParts {
  using MixerFactory = std::function<std::unique_ptr<Mixer>(
      const ModuleScope& scope, const DecoderSpec& spec, std::int64_t layer)>;

  MixerFactory attention;  ///< instead of Attention; `scope` is the layer's
  MixerFactory mlp;        ///< instead of Mlp
  /// Instead of DecoderBlock: a whole layer.
  std::function<std::unique_ptr<Block>(ModelParts& parts, const DecoderSpec& spec,
                                       std::int64_t layer)>
      block;
  /// Terms of the loss from what the layers carried, at the end of a forward pass.
  std::function<std::vector<AuxiliaryTerm>(const BlockState& state, const BatchContext& context)>
      auxiliary;
};

/// Name of layer number `layer`, "model.layers.0".
ESPALIER_API std::string layer_prefix(const DecoderSpec& spec, std::int64_t layer);

/// A block with a name and the list of its parameters, filled by the scope that it hands to its
/// modules.
class ESPALIER_API NamedBlock : public Block {
 public:
  explicit NamedBlock(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const override { return parameters_; }

 protected:
  ModuleScope scope(ModelParts& parts, const std::string& prefix) {
    return {parts, parameters_, prefix};
  }

 private:
  std::string name_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
};

/// Token embedding, scaled and projected as the family does, plus learned positions where it has
/// them: sets `hidden`.
class ESPALIER_API EmbeddingBlock final : public NamedBlock {
 public:
  EmbeddingBlock(ModelParts& parts, const DecoderSpec& spec);
  BlockState forward(BlockState state, const BatchContext& context) override;
  const Embedding& embedding() const { return *tokens_; }
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }

 private:
  at::ScalarType compute_dtype_ = at::kFloat;
  double scale_;
  bool scale_given_;
  std::int64_t position_offset_;
  std::unique_ptr<Embedding> tokens_;
  std::unique_ptr<Linear> projection_;
  std::unique_ptr<Embedding> positions_;
};

/// One decoder layer: attention and MLP, joined by the spec's residual plan.
class ESPALIER_API DecoderBlock final : public NamedBlock {
 public:
  DecoderBlock(ModelParts& parts, const DecoderSpec& spec, std::int64_t layer,
               const DecoderParts& own = {});
  ~DecoderBlock() override;
  BlockState forward(BlockState state, const BatchContext& context) override;
  std::vector<Block*> parts() override;

 private:
  class Half;
  at::Tensor attention_half(const at::Tensor& hidden, BlockState& state,
                            const BatchContext& context);
  at::Tensor mlp_half(const at::Tensor& hidden, BlockState& state, const BatchContext& context);
  BlockState forward_parallel(BlockState state, const BatchContext& context);

  ResidualPlan residual_;
  double residual_scale_;
  std::unique_ptr<Norm> attention_norm_;  ///< norms are nullptr where the family has none
  std::unique_ptr<Mixer> attention_;
  std::unique_ptr<Norm> attention_output_norm_;
  std::unique_ptr<Norm> mlp_norm_;
  std::unique_ptr<Mixer> mlp_;
  std::unique_ptr<Norm> mlp_output_norm_;
  std::unique_ptr<Half> attention_part_;  ///< these nullptr where both read the same input
  std::unique_ptr<Half> mlp_part_;
};

/// The norm after the last layer, and the projection to the width of the embedding where the two
/// differ.
class ESPALIER_API FinalNormBlock final : public NamedBlock {
 public:
  FinalNormBlock(ModelParts& parts, const DecoderSpec& spec);
  BlockState forward(BlockState state, const BatchContext& context) override;

 private:
  std::unique_ptr<Norm> norm_;
  std::unique_ptr<Linear> projection_;
};

}  // namespace espalier::nn

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/nn/attention_core.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"

namespace espalier::nn {

/// Self attention: hidden [tokens, embed] -> [tokens, embed].
class ESPALIER_API Attention {
 public:
  Attention(const ModuleScope& scope, const DecoderSpec& spec, std::int64_t layer);
  Attention(const Attention&) = delete;
  Attention& operator=(const Attention&) = delete;
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context);

 private:
  std::int64_t layer_;
  std::int64_t head_dim_;
  std::int64_t num_attention_heads_;
  std::int64_t num_key_value_heads_;
  double scale_;
  bool interleaved_rotary_;
  std::optional<std::int64_t> sliding_window_;
  std::unique_ptr<Linear> fused_;
  std::unique_ptr<Linear> query_;
  std::unique_ptr<Linear> key_;
  std::unique_ptr<Linear> value_;
  std::unique_ptr<Linear> output_;
  std::shared_ptr<AttentionCore> core_;
};

/// down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a gate.
class ESPALIER_API Mlp {
 public:
  Mlp(const ModuleScope& scope, const DecoderSpec& spec);
  Mlp(const Mlp&) = delete;
  Mlp& operator=(const Mlp&) = delete;
  at::Tensor forward(const at::Tensor& hidden) const;

 private:
  ops::Activation activation_;
  std::unique_ptr<Linear> gate_;
  std::unique_ptr<Linear> up_;
  std::unique_ptr<Linear> down_;
};

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

/// Token embedding, plus learned positions where the family has them: sets `hidden`.
class ESPALIER_API EmbeddingBlock final : public NamedBlock {
 public:
  EmbeddingBlock(ModelParts& parts, const DecoderSpec& spec);
  BlockState forward(BlockState state, const BatchContext& context) override;
  const Embedding& embedding() const { return *tokens_; }
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }

 private:
  at::ScalarType compute_dtype_ = at::kFloat;
  std::unique_ptr<Embedding> tokens_;
  std::unique_ptr<Embedding> positions_;
};

/// One pre-norm decoder layer.
class ESPALIER_API DecoderBlock final : public NamedBlock {
 public:
  DecoderBlock(ModelParts& parts, const DecoderSpec& spec, std::int64_t layer);
  BlockState forward(BlockState state, const BatchContext& context) override;

 private:
  std::unique_ptr<Norm> attention_norm_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<Norm> mlp_norm_;
  std::unique_ptr<Mlp> mlp_;
};

/// The norm after the last layer.
class ESPALIER_API FinalNormBlock final : public NamedBlock {
 public:
  FinalNormBlock(ModelParts& parts, const DecoderSpec& spec);
  BlockState forward(BlockState state, const BatchContext& context) override;

 private:
  std::unique_ptr<Norm> norm_;
};

}  // namespace espalier::nn

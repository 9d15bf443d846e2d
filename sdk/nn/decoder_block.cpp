#include "espalier/nn/decoder_block.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>

#include "espalier/nn/attention.h"
#include "espalier/nn/mlp.h"

namespace espalier::nn {
namespace {

/// nullptr where the name is empty.
std::unique_ptr<Norm> make_norm(const ModuleScope& scope, const DecoderSpec& spec,
                                const std::string& name) {
  if (name.empty()) return nullptr;
  return std::make_unique<Norm>(scope.child(name), spec.norm, dimension("embed", spec.hidden_size));
}

at::Tensor normed(const std::unique_ptr<Norm>& norm, const at::Tensor& x) {
  return norm ? norm->forward(x) : x;
}

at::Tensor scaled(const at::Tensor& x, double scale) { return scale == 1.0 ? x : x * scale; }

}  // namespace

Mixer::~Mixer() = default;

std::string layer_prefix(const DecoderSpec& spec, std::int64_t layer) {
  std::string prefix = spec.names.layer;
  return prefix.replace(prefix.find("{}"), 2, std::to_string(layer));
}

EmbeddingBlock::EmbeddingBlock(ModelParts& parts, const DecoderSpec& spec)
    : NamedBlock(spec.names.embedding),
      scale_(spec.embedding_scale),
      scale_given_(spec.scale_given_embeddings),
      position_offset_(spec.position_offset) {
  const Dimension embed = dimension("embed", spec.hidden_size);
  const Dimension width = dimension("embed", spec.width_of_embedding());
  tokens_ = std::make_unique<Embedding>(scope(parts, spec.names.embedding),
                                        dimension("vocab", spec.vocab_size), width,
                                        spec.initializer_range, spec.padding_id);
  if (!spec.names.embedding_projection.empty()) {
    projection_ = make_linear(scope(parts, ""), spec, spec.names.embedding_projection, embed, width,
                              /*bias=*/false);
  }
  if (!spec.names.positions.empty()) {
    positions_ = std::make_unique<Embedding>(
        scope(parts, spec.names.positions),
        dimension("positions", spec.max_positions + spec.position_offset), embed,
        spec.initializer_range);
  }
}

BlockState EmbeddingBlock::forward(BlockState state, const BatchContext& context) {
  const bool given = state.hidden.defined();
  if (!given) state.hidden = tokens_->forward(context.input_ids, compute_dtype_);
  // The factor is rounded to the compute dtype, as a stored constant of the model would be.
  if (scale_ != 1.0 && (!given || scale_given_)) {
    const at::Tensor all = state.hidden * at::scalar_tensor(scale_, state.hidden.options());
    // What an adapter puts among the tokens is given, as vectors are.
    const bool some_given = !given && !scale_given_ && tokens_->has_prompt_tokens();
    state.hidden =
        some_given ? at::where(context.input_ids.eq(kPromptToken).unsqueeze(-1), state.hidden, all)
                   : all;
  }
  if (projection_) state.hidden = projection_->forward(state.hidden);
  if (positions_) {
    state.hidden =
        state.hidden + positions_->forward(context.position_ids + position_offset_, compute_dtype_);
  }
  return state;
}

/// One residual branch of a layer with its share of the parameters.
class DecoderBlock::Half final : public Block {
 public:
  using Compute = at::Tensor (DecoderBlock::*)(const at::Tensor&, BlockState&, const BatchContext&);

  Half(DecoderBlock& layer, const char* name, Compute compute,
       std::vector<std::shared_ptr<Parameter>> parameters)
      : name_(layer.name() + "." + name),
        layer_(layer),
        compute_(compute),
        parameters_(std::move(parameters)) {}

  const std::string& name() const override { return name_; }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const override { return parameters_; }
  BlockState forward(BlockState state, const BatchContext& context) override {
    state.hidden = (layer_.*compute_)(state.hidden, state, context);
    return state;
  }

 private:
  std::string name_;
  DecoderBlock& layer_;
  Compute compute_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
};

DecoderBlock::DecoderBlock(ModelParts& parts, const DecoderSpec& spec, std::int64_t layer,
                           const DecoderParts& own)
    : NamedBlock(layer_prefix(spec, layer)),
      residual_(spec.residual),
      residual_scale_(spec.residual_scale) {
  const ModuleScope here = scope(parts, name());
  attention_norm_ = make_norm(here, spec, spec.names.attention_norm);
  if (own.attention) {
    attention_ = own.attention(here, spec, layer);
  } else {
    attention_ = std::make_unique<Attention>(here, spec, layer);
  }
  attention_output_norm_ = make_norm(here, spec, spec.names.attention_output_norm);
  const auto border = static_cast<std::ptrdiff_t>(parameters().size());
  mlp_norm_ = make_norm(here, spec, spec.names.mlp_norm);
  if (own.mlp) {
    mlp_ = own.mlp(here, spec, layer);
  } else {
    mlp_ = std::make_unique<Mlp>(here, spec);
  }
  mlp_output_norm_ = make_norm(here, spec, spec.names.mlp_output_norm);
  if (residual_ == ResidualPlan::kParallel) return;
  const auto first = parameters().begin();
  attention_part_ =
      std::make_unique<Half>(*this, "attention", &DecoderBlock::attention_half,
                             std::vector<std::shared_ptr<Parameter>>(first, first + border));
  mlp_part_ = std::make_unique<Half>(
      *this, "mlp", &DecoderBlock::mlp_half,
      std::vector<std::shared_ptr<Parameter>>(first + border, parameters().end()));
}

DecoderBlock::~DecoderBlock() = default;

std::vector<Block*> DecoderBlock::parts() {
  if (attention_part_ == nullptr) return {};
  return {attention_part_.get(), mlp_part_.get()};
}

at::Tensor DecoderBlock::attention_half(const at::Tensor& hidden, BlockState& state,
                                        const BatchContext& context) {
  const bool post_norm = residual_ == ResidualPlan::kPostNorm;
  const at::Tensor input = post_norm ? hidden : normed(attention_norm_, hidden);
  const at::Tensor sum = hidden + scaled(normed(attention_output_norm_,
                                                attention_->forward(input, context, state.carried)),
                                         residual_scale_);
  return post_norm ? normed(attention_norm_, sum) : sum;
}

at::Tensor DecoderBlock::mlp_half(const at::Tensor& hidden, BlockState& state,
                                  const BatchContext& context) {
  const bool post_norm = residual_ == ResidualPlan::kPostNorm;
  const at::Tensor input = post_norm ? hidden : normed(mlp_norm_, hidden);
  const at::Tensor sum =
      hidden + scaled(normed(mlp_output_norm_, mlp_->forward(input, context, state.carried)),
                      residual_scale_);
  return post_norm ? normed(mlp_norm_, sum) : sum;
}

/// Both read the norm of the same input.
BlockState DecoderBlock::forward_parallel(BlockState state, const BatchContext& context) {
  const at::Tensor hidden = state.hidden;
  at::Tensor input = normed(attention_norm_, hidden);
  const at::Tensor attended =
      scaled(normed(attention_output_norm_, attention_->forward(input, context, state.carried)),
             residual_scale_);
  if (mlp_norm_) input = mlp_norm_->forward(hidden);
  const at::Tensor mixed = scaled(
      normed(mlp_output_norm_, mlp_->forward(input, context, state.carried)), residual_scale_);
  state.hidden = hidden + attended + mixed;
  return state;
}

BlockState DecoderBlock::forward(BlockState state, const BatchContext& context) {
  if (residual_ == ResidualPlan::kParallel) return forward_parallel(std::move(state), context);
  state.hidden = attention_half(state.hidden, state, context);
  state.hidden = mlp_half(state.hidden, state, context);
  return state;
}

FinalNormBlock::FinalNormBlock(ModelParts& parts, const DecoderSpec& spec)
    : NamedBlock(spec.names.final_norm.empty() ? "final" : spec.names.final_norm) {
  norm_ = make_norm(scope(parts, ""), spec, spec.names.final_norm);
  if (!spec.names.output_projection.empty()) {
    projection_ = make_linear(scope(parts, ""), spec, spec.names.output_projection,
                              dimension("embed", spec.width_of_embedding()),
                              dimension("embed", spec.hidden_size), /*bias=*/false);
  }
}

BlockState FinalNormBlock::forward(BlockState state, const BatchContext&) {
  state.hidden = normed(norm_, state.hidden);
  if (projection_) state.hidden = projection_->forward(state.hidden);
  return state;
}

}  // namespace espalier::nn

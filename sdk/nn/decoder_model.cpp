#include "espalier/nn/decoder_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tanh.h>

#include <algorithm>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/nn/document_prefix.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/nn/shared_prefixes.h"

namespace espalier::nn {

/// The output projection; shares the embedding's weight where the family ties them.
class DecoderModel::LinearHead final : public Head {
 public:
  LinearHead(DecoderModel& model, const DecoderSpec& spec)
      : model_(model),
        vocab_size_(spec.vocab_size),
        scale_(spec.logit_scale),
        soft_cap_(spec.logit_soft_cap) {
    const ModuleScope scope(model.parts_, parameters_, spec.names.head);
    if (spec.tie_word_embeddings) {
      linear_ =
          std::make_unique<Linear>(scope, model.embedding_->embedding().weight(), spec.head_bias);
    } else {
      const LinearSpec linear{dimension("vocab", spec.vocab_size),
                              dimension("embed", spec.width_of_embedding()), spec.head_bias,
                              /*transposed_on_disk=*/false, spec.initializer_range};
      linear_ = std::make_unique<Linear>(scope, linear);
    }
  }

  std::int64_t vocab_size() const override { return vocab_size_; }
  std::shared_ptr<void> scope() override { return model_.runner_->head_scope(parameters_); }
  at::Tensor project(const at::Tensor& hidden_rows) override {
    return finished(linear_->forward(hidden_rows));
  }
  Linear& linear() override { return *linear_; }
  const AxisShare* share() const override { return linear_->redistribution().share.get(); }
  at::Tensor project_share(const at::Tensor& hidden_rows) override {
    return finished(share() == nullptr ? linear_->forward(hidden_rows)
                                       : linear_->forward_share(hidden_rows));
  }

 private:
  at::Tensor finished(at::Tensor logits) const {
    if (scale_ != 1.0) logits = logits * scale_;
    if (soft_cap_) logits = at::tanh(logits / *soft_cap_) * *soft_cap_;
    return logits;
  }

  DecoderModel& model_;
  std::int64_t vocab_size_;
  double scale_;
  std::optional<double> soft_cap_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::unique_ptr<Linear> linear_;
};

DecoderModel::DecoderModel(DecoderSpec spec, DecoderParts own)
    : spec_(std::move(spec)), own_(std::move(own)), runner_(std::make_shared<BlockRunner>()) {
  embedding_ = std::make_unique<EmbeddingBlock>(parts_, spec_);
  for (std::int64_t layer = 0; layer < spec_.num_layers; ++layer) {
    layers_.push_back(own_.block ? own_.block(parts_, spec_, layer)
                                 : std::make_unique<DecoderBlock>(parts_, spec_, layer, own_));
  }
  final_norm_ = std::make_unique<FinalNormBlock>(parts_, spec_);
  head_ = std::make_unique<LinearHead>(*this, spec_);
  parts_.ignored_on_disk = spec_.ignored_on_disk;
  if (spec_.tie_word_embeddings) parts_.ignored_on_disk.push_back(spec_.names.head + ".weight");
}

DecoderModel::~DecoderModel() = default;

Head& DecoderModel::head() { return *head_; }

std::vector<Tower> DecoderModel::towers() {
  Tower tower{"model", embedding_.get(), {}, final_norm_.get()};
  for (const auto& layer : layers_) tower.blocks.push_back(layer.get());
  return {tower};
}

ModelShape DecoderModel::shape() const {
  const std::int64_t inner =
      spec_.active_intermediate_size > 0 ? spec_.active_intermediate_size : spec_.intermediate_size;
  std::string undivided;
  if (spec_.recurrent || own_.block)
    undivided = "its layers carry a state along the text";
  else if (own_.attention)
    undivided = "its attention is not that of whole heads";
  else if (spec_.alibi)
    undivided = "its ALiBi slopes go by the number of a head";
  return {spec_.hidden_size,         inner,          spec_.num_layers, spec_.num_attention_heads,
          spec_.num_key_value_heads, spec_.head_dim, spec_.vocab_size, spec_.max_positions,
          spec_.recurrent,           undivided};
}

void DecoderModel::set_block_runner(std::shared_ptr<BlockRunner> runner) {
  ESPALIER_ASSERT(runner != nullptr, "a model needs a block runner");
  runner_ = std::move(runner);
}

void DecoderModel::set_compute_dtype(at::ScalarType dtype) {
  compute_dtype_ = dtype;
  embedding_->set_compute_dtype(dtype);
}

std::unique_ptr<KvCache> DecoderModel::make_cache() {
  for (const RotarySpec& rotary : spec_.rotary)
    if (rotary.depends_on_length()) return nullptr;
  return std::make_unique<KvCache>(spec_.num_layers);
}

/// Positions inside each document, or those given; what an adapter puts before a document comes
/// first.
at::Tensor DecoderModel::make_positions(const ModelInput& input, const TokenLayout& layout,
                                        const at::Tensor& own_rows) const {
  const DocumentPrefix& prefix = parts_.prefix;
  std::vector<at::Tensor> positions;
  for (std::int64_t d = 0; d < layout.documents(); ++d) {
    const std::size_t i = static_cast<std::size_t>(d);
    const std::int64_t first = prefix.keys + (input.cache == nullptr ? 0 : input.cache->length(d));
    const std::int64_t length = layout.document_starts[i + 1] - layout.document_starts[i];
    positions.push_back(at::arange(first, first + length, at::TensorOptions().dtype(at::kLong)));
  }
  at::Tensor all =
      positions.empty() ? at::arange(0, at::TensorOptions().dtype(at::kLong)) : at::cat(positions);
  const at::Tensor given = input.get("position_ids");
  if (!given.defined()) return all;
  const at::Tensor own = make_layout(input).flatten(given);
  if (!own_rows.defined()) return own + prefix.keys;
  return all.index_copy_(0, own_rows, own.cpu() + prefix.tokens);
}

bool DecoderModel::can_share_prefixes() const {
  // A family's own parts may look at neighbours, and experts count their tokens.
  const bool own = own_.attention || own_.mlp || own_.block || own_.auxiliary;
  const bool by_length =
      std::any_of(spec_.rotary.begin(), spec_.rotary.end(),
                  [](const RotarySpec& rotary) { return rotary.depends_on_length(); });
  return !own && !by_length && !spec_.recurrent && parts_.prefix.tokens == 0;
}

void DecoderModel::set_tokens(const ModelInput& input, at::Tensor& own_rows,
                              BatchContext& context) const {
  context.layout = make_layout(input);
  if (input.get("input_ids").defined())
    context.input_ids = context.layout.flatten(input.get("input_ids"));
  if (parts_.prefix.tokens > 0) {
    PromptedTokens prompted =
        with_prompt_tokens(context.layout, context.input_ids, parts_.prefix.tokens, input.cache);
    context.layout = std::move(prompted.layout);
    context.input_ids = std::move(prompted.input_ids);
    own_rows = std::move(prompted.own_rows);
  }
  context.position_ids = make_positions(input, context.layout, own_rows);
  context.rows = context.layout.tokens();
  const bool by_ids = context.input_ids.defined() && !input.get("inputs_embeds").defined();
  if (share_prefixes_ && by_ids && input.cache == nullptr && can_share_prefixes())
    context.shared = share_prefixes(context.layout, context.input_ids, context.position_ids);
  if (context.shared.defined()) {
    const at::Tensor& kept = context.shared.token_of_row;
    context.rows = kept.size(0);
    context.input_ids = context.input_ids.cpu().index_select(0, kept);
    context.position_ids = context.position_ids.cpu().index_select(0, kept);
  }
}

std::int64_t DecoderModel::rows(const ModelInput& input) const {
  BatchContext context;
  at::Tensor own_rows;
  set_tokens(input, own_rows, context);
  return context.rows;
}

BatchContext DecoderModel::make_context(const ModelInput& input, at::Tensor& own_rows) const {
  BatchContext context;
  context.cache = input.cache;
  context.compute_dtype = compute_dtype_;
  context.training = training_;
  context.prefix_keys = parts_.prefix.keys;
  set_tokens(input, own_rows, context);
  for (const RotarySpec& rotary : spec_.rotary)
    context.rotary.push_back(rotary_tables(rotary, context.position_ids, context.layout));
  // What was found out on the CPU goes to where blocks compute, in one place for all of them.
  for (at::Tensor* tensor : {&context.input_ids, &context.position_ids,
                             &context.shared.row_of_token, &context.shared.token_of_row})
    if (tensor->defined()) *tensor = tensor->to(device());
  for (auto& [cos, sin] : context.rotary) {
    cos = cos.to(device());
    sin = sin.to(device());
  }
  return context;
}

ModelOutput DecoderModel::forward(const ModelInput& input) {
  at::Tensor own_rows;
  const BatchContext context = make_context(input, own_rows);
  BlockState state;
  if (input.get("inputs_embeds").defined()) {
    state.hidden = context.layout.flatten(input.get("inputs_embeds")).to(device(), compute_dtype_);
  }
  state = runner_->run(*embedding_, std::move(state), context);
  for (const auto& layer : layers_) state = runner_->run(*layer, std::move(state), context);
  state = runner_->run(*final_norm_, std::move(state), context);
  if (input.cache != nullptr) {
    std::vector<std::int64_t> tokens;
    for (std::size_t d = 0; d + 1 < context.layout.document_starts.size(); ++d) {
      tokens.push_back(context.layout.document_starts[d + 1] - context.layout.document_starts[d]);
    }
    input.cache->advance(tokens);
  }
  // Families that keep the residual stream in float32 leave it here.
  ModelOutput output{state.hidden.to(compute_dtype_), context.layout, {}};
  if (context.shared.defined()) output.hidden = rows_of_tokens(output.hidden, context.shared);
  if (own_rows.defined()) {
    output.hidden = output.hidden.index_select(0, own_rows.to(output.hidden.device()));
    output.layout = make_layout(input);
  }
  if (own_.auxiliary) output.auxiliary = own_.auxiliary(state, context);
  return output;
}

}  // namespace espalier::nn

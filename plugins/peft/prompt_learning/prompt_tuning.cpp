#include "prompt_tuning.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/random.h"
#include "espalier/io/initial_value.h"

namespace espalier::prompts {
namespace {

/// Puts the learnt vectors where the text has prompt tokens: as many before each document, in
/// order.
class PromptRows final : public nn::EmbeddingExtension {
 public:
  explicit PromptRows(const PromptAdapter& adapter, std::shared_ptr<Parameter> matrix)
      : adapter_(adapter), matrix_(std::move(matrix)) {}

  at::Tensor apply(const nn::Embedding&, const at::Tensor& ids, at::Tensor output) override {
    if (!adapter_.enabled()) return output;
    const at::Tensor rows = ids.eq(nn::kPromptToken).nonzero().squeeze(-1);
    if (rows.numel() == 0) return output;  // texts that go on
    const at::Tensor prompt = matrix_->computed().to(output.scalar_type());
    ESPALIER_ASSERT(rows.numel() % prompt.size(0) == 0, "every document has the whole prompt");
    return output.index_copy(0, rows, prompt.repeat({rows.numel() / prompt.size(0), 1}));
  }
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {matrix_}; }
  bool fills_prompt_tokens() const override { return adapter_.enabled(); }

 private:
  const PromptAdapter& adapter_;
  std::shared_ptr<Parameter> matrix_;
};

/// The table of token vectors.
nn::Embedding* token_embedding(Model& model) {
  for (nn::Embedding* embedding : model.parts().embeddings) {
    if (embedding->weight()->spec().dimensions[0].segments[0].axis == "vocab") return embedding;
  }
  return nullptr;
}

}  // namespace

ConfigSchema<PromptTuningConfig> PromptTuningConfig::schema() {
  return ConfigSchema<PromptTuningConfig>()
      .field("num_virtual_tokens", &PromptTuningConfig::num_virtual_tokens,
             "learnt tokens before every text")
      .at_least(1)
      .field("prompt_tuning_init", &PromptTuningConfig::prompt_tuning_init,
             "start: random numbers, the vectors of tokens drawn from the vocabulary, or those of "
             "init_token_ids")
      .one_of({"random", "sample_vocab", "token_ids"})
      .field("init_token_ids", &PromptTuningConfig::init_token_ids,
             "tokens to start with, repeated or cut to num_virtual_tokens")
      .at_least(0)
      .field("dtype", &PromptTuningConfig::dtype, "how the vectors are stored")
      .one_of({"float32", "bfloat16", "float16"})
      .field("path", &PromptTuningConfig::path,
             "go on from the adapter in this folder: its own settings hold");
}

PromptTuning::PromptTuning(const PromptTuningConfig& config)
    : PromptAdapter("PROMPT_TUNING", config.num_virtual_tokens, config.dtype),
      init_(config.prompt_tuning_init),
      init_ids_(config.init_token_ids) {
  if ((init_ == "token_ids") == init_ids_.empty()) {
    throw_bad_input("prompt_tuning_init and init_token_ids do not go together",
                    init_ + " with " + std::to_string(init_ids_.size()) + " ids",
                    "token_ids with a list of ids, or another start without one",
                    "peft.prompt_tuning_init");
  }
  if (!config.path.empty()) open(config.path);
}

void PromptTuning::check_config(const peft::PeftReader&) const {}

Dimension PromptTuning::width(Model& model) const {
  const nn::Embedding* embedding = token_embedding(model);
  const bool fits = embedding != nullptr &&
                    embedding->weight()->spec().dimensions[1].size() == shape().hidden_size;
  if (fits) return embedding->weight()->spec().dimensions[1];
  throw Error(Problem{ErrorCode::kUnsupported,
                      "the model's token vectors are not of the width of its layers",
                      {},
                      std::to_string(shape().hidden_size),
                      "[peft]",
                      "use another kind of adapter"});
}

void PromptTuning::extend(Model& model) {
  embedding_ = token_embedding(model);
  embedding_->add_extension(std::make_shared<PromptRows>(*this, matrix()));
}

at::Tensor PromptTuning::new_values(std::uint64_t seed) const {
  const at::NoGradGuard no_grad;
  const std::int64_t count = tokens();
  if (init_ == "random") {
    ParameterSpec spec = matrix()->spec();
    spec.initialisation = {.kind = Initialisation::Kind::kNormal, .standard_deviation = 1.0};
    return initial_value(spec, at::kFloat, seed);
  }
  const auto rows = static_cast<std::uint64_t>(embedding_->weight()->spec().dimensions[0].size());
  const CounterRandom random(seed, hash_text(matrix()->name()));
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::size_t>(i);
    ids.push_back(init_ == "token_ids" ? init_ids_[index % init_ids_.size()]
                                       : static_cast<std::int64_t>(random.below(index, rows)));
    if (static_cast<std::uint64_t>(ids.back()) >= rows)
      throw_bad_input("an id is outside the vocabulary", std::to_string(ids.back()),
                      "0 to " + std::to_string(rows - 1), "peft.init_token_ids");
  }
  const at::Device device = embedding_->weight()->value().device();
  return embedding_->storage().rows(at::tensor(ids, at::kLong).to(device), at::kFloat).cpu();
}

void PromptTuning::switch_model(ModelParts& parts, bool enabled) {
  parts.prefix.tokens = enabled ? tokens() : 0;
}

void PromptTuning::add_config(Table& table) const {
  table.set("num_attention_heads", shape().num_attention_heads);
  table.set("prompt_tuning_init", "RANDOM");
  table.set("prompt_tuning_init_text", Value());
  table.set("token_dim", shape().hidden_size);
  table.set("tokenizer_kwargs", Value());
  table.set("tokenizer_name_or_path", Value());
}

}  // namespace espalier::prompts

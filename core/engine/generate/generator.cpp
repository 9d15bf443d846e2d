#include "engine/generate/generator.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <memory>

#include "espalier/base/error.h"
#include "espalier/nn/kv_cache.h"

namespace espalier {
namespace {

/// Logits [vocab] of the last token after running `ids`, which continue what the cache holds.
at::Tensor last_logits(Model& model, const std::vector<std::int64_t>& ids, KvCache* cache) {
  ModelInput input;
  input.tensors.emplace("input_ids", at::tensor(ids, at::kLong).unsqueeze(0));
  input.cache = cache;
  const ModelOutput output = model.forward(input);
  const auto scope = model.head().scope();
  return model.head().project(output.hidden.narrow(0, output.hidden.size(0) - 1, 1))[0].cpu();
}

}  // namespace

std::vector<std::int64_t> generate(Model& model, const std::vector<std::int64_t>& prompt,
                                   const GenerateOptions& options, const TokenSink& sink) {
  if (prompt.empty()) {
    throw_bad_input("the prompt has no tokens", {}, "at least one", "the prompt",
                    "this tokenizer adds no token at the start; give some text");
  }
  const at::NoGradGuard no_grad;
  model.set_training(false);
  const std::unique_ptr<KvCache> cache = model.make_cache();
  Sampler sampler(options.sampling, /*stream=*/0);
  std::vector<std::int64_t> text = prompt;
  std::vector<std::int64_t> answer;
  std::vector<std::int64_t> pending = prompt;
  while (static_cast<std::int64_t>(answer.size()) < options.max_new_tokens) {
    const at::Tensor logits = last_logits(model, cache ? pending : text, cache.get());
    const std::int64_t id = sampler.pick(logits, text);
    text.push_back(id);
    answer.push_back(id);
    pending = {id};
    const bool wanted = !sink || sink(id);
    if (!wanted || options.stop_ids.contains(id)) break;
  }
  return answer;
}

}  // namespace espalier

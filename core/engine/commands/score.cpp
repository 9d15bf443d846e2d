#include "engine/run/score.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <cstdio>
#include <sstream>

#include "engine/commands/engine_command.h"
#include "engine/run/model_files.h"
#include "engine/run/model_loader.h"
#include "engine/run/score_task.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "plugin/capabilities.h"
#include "plugin/model_provider.h"
#include "text/tokenizer_loader.h"

namespace espalier {
namespace {

/// The tensors that a batch is made of, with their types checked; the others in the file are left
/// alone.
std::map<std::string, at::Tensor> read_batch(const std::string& path) {
  const SafetensorsFile file(path);
  std::map<std::string, at::Tensor> batch;
  for (const char* name : {"input_ids", "attention_mask", "position_ids", "cu_seqlens", "labels"}) {
    if (file.find(name) == nullptr) continue;
    const at::Tensor tensor = read_tensor(file, name);
    if (name == std::string("labels") && tensor.is_floating_point()) {
      batch.emplace(name, tensor);  // targets of a regression, or several labels of a text
      continue;
    }
    if (!at::isIntegralType(tensor.scalar_type(), /*includeBool=*/true)) {
      throw_bad_input(std::string("'") + name + "' has the wrong type",
                      scalar_type_name(tensor.scalar_type()), "int64", path);
    }
    batch.emplace(name, tensor.to(at::kLong));
  }
  if (!batch.contains("input_ids"))
    throw_bad_input("the input has no 'input_ids'", {}, "a tensor [batch, seq] of int64", path);
  return batch;
}

std::vector<std::string> read_texts(const EngineCall& call) {
  if (!call.option("text").is_null()) return {call.text("text")};
  const std::string path = call.text("texts");
  std::vector<std::string> texts;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const std::string where = path + ":" + std::to_string(texts.size() + 1);
    const Value value = parse_json(line, {.file = where});
    const Value* text = value.find("text");
    if (text == nullptr || !text->is_string())
      throw_bad_input("a line has no 'text'", line, "{\"text\": \"...\"}", where);
    texts.push_back(text->as_string());
  }
  return texts;
}

/// Log probability of each token after the first, given those before it.
std::vector<double> token_log_probabilities(Model& model, const std::vector<std::int32_t>& ids) {
  if (ids.size() < 2) return {};
  const at::NoGradGuard no_grad;
  const at::Tensor tokens =
      at::tensor(std::vector<std::int64_t>(ids.begin(), ids.end()), at::kLong);
  const ModelOutput output = model.forward({{{"input_ids", tokens.unsqueeze(0)}}});
  const auto scope = model.head().scope();
  const std::int64_t predicted = tokens.size(0) - 1;
  const at::Tensor logits =
      model.head().project(output.hidden.narrow(0, 0, predicted)).to(at::kCPU, at::kFloat);
  const at::Tensor scores =
      at::log_softmax(logits, -1).gather(-1, tokens.narrow(0, 1, predicted).unsqueeze(-1));
  const at::Tensor values = scores.squeeze(-1).to(at::kDouble);
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + predicted};
}

void print_scores(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                  const std::vector<double>& scores, bool json) {
  double sum = 0;
  for (const double score : scores) sum += score;
  const double perplexity =
      scores.empty() ? 1.0 : std::exp(-sum / static_cast<double>(scores.size()));
  if (!json) {
    for (std::size_t i = 0; i < scores.size(); ++i) {
      std::printf("%10.4f  %s\n", scores[i], tokenizer.id_to_token(ids[i + 1]).c_str());
    }
    std::printf("%10.4f  log probability of %zu tokens, perplexity %.4f\n", sum, scores.size(),
                perplexity);
    return;
  }
  Array list_of_ids;
  Array list_of_scores;
  for (const std::int32_t id : ids) list_of_ids.emplace_back(static_cast<std::int64_t>(id));
  for (const double score : scores) list_of_scores.emplace_back(score);
  Table line;
  line.set("ids", std::move(list_of_ids));
  line.set("log_probabilities", std::move(list_of_scores));
  line.set("log_probability", sum);
  line.set("perplexity", perplexity);
  std::puts(dump_json(line).c_str());
}

int score_texts(const EngineCall& call, Model& model) {
  std::shared_ptr<const Tokenizer> tokenizer = model_tokenizer(call);
  if (tokenizer == nullptr)
    tokenizer = text::load_tokenizer(call.text("model"));  // says what lacks
  for (const std::string& text : read_texts(call)) {
    const std::vector<std::int32_t> ids = tokenizer->encode(text, true);
    print_scores(*tokenizer, ids, token_log_probabilities(model, ids), call.flag("json"));
  }
  return 0;
}

}  // namespace

int run_score(const EngineCall& call) {
  ModelLoadOptions options;
  // The numbers of the weights as they are: float32 arithmetic unless another dtype is asked for.
  options.dtype = call.text("dtype").empty() ? "auto" : call.text("dtype");
  options.compute_dtype = call.text("dtype").empty() ? "float32" : call.text("dtype");
  options.device = call.text("device");
  options.files = model_files(call);
  if (!call.text("task").empty()) options.task = call.text("task");
  options.token_head = plugin::token_head_of(call.request.components.at("model").component);
  const bool is_text = call.option("input").is_null();
  const std::map<std::string, at::Tensor> batch =
      is_text ? std::map<std::string, at::Tensor>() : read_batch(call.text("input"));
  const LoadedModel loaded = load_model(*call.create<ModelProvider>("model"), call.text("model"),
                                        options, call.adapter("peft"));
  plugin::require_capability(call.request.components.at("model").component, task_name(loaded.task),
                             call.text("model"));
  if (is_text) {
    require_language_model(loaded, "scoring a text");
    return score_texts(call, *loaded.model);
  }
  const ScoreOptions what{call.flag("logits"), call.flag("gradients"), call.flag("shifted-labels")};
  const std::map<std::string, at::Tensor> results =
      loaded.task == Task::kCausalLm
          ? score(*loaded.model, batch, what, loaded.adapter.get())
          : score_task(loaded, batch,
                       {what.logits, what.gradients, call.text("pooling"), call.flag("normalize")});
  write_tensors(call.text("output"), results);
  if (results.contains("loss")) {
    std::printf("loss %.6f over %ld label tokens\n", results.at("loss").item<double>(),
                static_cast<long>(results.at("num_label_tokens").item<std::int64_t>()));
  }
  return 0;
}

}  // namespace espalier

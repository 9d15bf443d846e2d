#include "engine/run/training_samples.h"

#include "engine/generate/generation_request.h"
#include "engine/generate/prompt_file.h"
#include "engine/generate/text_runner.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr const char* kSection = "[generation_samples]";

std::vector<std::int64_t> widened(const std::vector<std::int32_t>& ids) {
  return {ids.begin(), ids.end()};
}

/// The model as it writes texts: no dropout; and as it trains again afterwards.
class WritingModel {
 public:
  explicit WritingModel(const LoadedModel& loaded) : model_(*loaded.model) {
    if (loaded.adapter != nullptr) loaded.adapter->begin_pass({});
  }
  WritingModel(const WritingModel&) = delete;
  WritingModel& operator=(const WritingModel&) = delete;
  ~WritingModel() { model_.set_training(true); }  // the runner switched it off

 private:
  Model& model_;
};

}  // namespace

TrainingSamples::TrainingSamples(const config::GenerationSamplesConfig& config, const RunData& data,
                                 const LoadedModel& model)
    : model_(model), tokenizer_(data.tokenizer), chat_(data.chat_template) {
  if (config.prompts.empty() && config.file.empty()) return;
  require_language_model(model, "generation_samples");
  if (tokenizer_ == nullptr)
    throw_bad_input("samples need a tokenizer, and the model folder has none", {}, "tokenizer.json",
                    model.folder, "leave [generation_samples] out");
  options_.max_new_tokens = config.max_new_tokens;
  options_.stop_ids = stop_ids_of(model);
  SamplingOptions& sampling = options_.sampling;
  sampling.sample = config.temperature > 0;
  if (sampling.sample) sampling.temperature = config.temperature;
  sampling.top_k = config.top_k;
  sampling.top_p = config.top_p;
  sampling.repetition_penalty = config.repetition_penalty;
  sampling.seed = static_cast<std::uint64_t>(config.seed);
  if (!sampling.sample && (config.top_k > 0 || config.top_p < 1.0)) {
    throw_bad_input("top_k and top_p choose among tokens to draw from, and nothing is drawn",
                    "temperature 0", "a temperature above 0, or neither of them", kSection);
  }
  for (const std::string& prompt : config.prompts) {
    Table line;
    line.set("prompt", prompt);
    add(Value(std::move(line)).at({"generation_samples.prompts", 0, 0}));
  }
  if (!config.file.empty()) {
    for (const Value& line : read_prompt_lines(config.file)) add(line);
  }
}

void TrainingSamples::add(const Value& line) {
  const Value* text = line.find("prompt");
  const Value* messages = line.find("messages");
  Prompt prompt;
  if (text != nullptr) {
    prompt.shown.set("prompt", *text);
    prompt.ids = widened(tokenizer_->encode(text->as_string(), true));
  } else if (messages != nullptr && chat_ != nullptr) {
    prompt.shown.set("messages", *messages);
    prompt.ids = widened(tokenizer_->encode(chat_->render(*messages, Value(), true).text, false));
  } else if (messages != nullptr) {
    throw_bad_input("the model has no chat template", {},
                    "chat_template.jinja or chat_template in tokenizer_config.json", model_.folder,
                    "give plain texts as generation_samples.prompts");
  } else {
    throw_bad_input("a line of the prompts has no prompt", dump_json(line), "prompt or messages",
                    line.position().to_string());
  }
  if (prompt.ids.empty())
    throw_bad_input("a prompt has no tokens", dump_json(line), "some text",
                    line.position().to_string());
  prompts_.push_back(std::move(prompt));
}

std::vector<Answer> TrainingSamples::answers(std::int64_t max_new_tokens) const {
  const WritingModel writing(model_);
  TextRunner runner(*model_.model);
  GenerateOptions options = options_;
  options.max_new_tokens = max_new_tokens;
  std::vector<std::vector<std::int64_t>> ids;
  for (const Prompt& prompt : prompts_) ids.push_back(prompt.ids);
  return generate_answers(runner, ids, options);
}

void TrainingSamples::try_out() const { answers(1); }

Value TrainingSamples::write(std::int64_t step) const {
  const std::vector<Answer> written = answers(options_.max_new_tokens);
  Array samples;
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    std::vector<std::int32_t> ids(written[i].ids.begin(), written[i].ids.end());
    Table sample = prompts_[i].shown;
    sample.set("answer", tokenizer_->decode(ids, /*skip_special_tokens=*/true));
    sample.set("ending", written[i].ending == Ending::kStopId ? "end_of_text" : "length");
    samples.emplace_back(std::move(sample));
  }
  Table line;
  line.set("step", step);
  line.set("samples", std::move(samples));
  return line;
}

}  // namespace espalier

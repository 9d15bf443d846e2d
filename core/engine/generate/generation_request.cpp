#include "engine/generate/generation_request.h"

#include <filesystem>

#include "engine/run/model_files.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "text/chat_template_loader.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

std::vector<std::int64_t> widened(const std::vector<std::int32_t>& ids) {
  return {ids.begin(), ids.end()};
}

EarlyStopping early_stopping(const std::string& text) {
  if (text.empty() || text == "false") return EarlyStopping::kNo;
  if (text == "true") return EarlyStopping::kYes;
  if (text == "never") return EarlyStopping::kNever;
  throw_bad_input("--early-stopping is none of its values", text, "true, false or never",
                  "--early-stopping");
}

}  // namespace

std::set<std::int64_t> stop_ids_of(const LoadedModel& loaded) {
  const std::string file = (fs::path(loaded.folder) / "generation_config.json").string();
  const Value generation =
      fs::exists(file) ? read_json_file(file, {.allow_duplicate_keys = true}) : Value(Table());
  const Value* eos = generation.find("eos_token_id");
  if (eos == nullptr || eos->is_null()) eos = loaded.config.find("eos_token_id");
  std::set<std::int64_t> ids;
  if (eos == nullptr || eos->is_null()) return ids;
  if (eos->is_int()) return {eos->as_int()};
  for (const Value& id : eos->as_array()) ids.insert(id.as_int());
  return ids;
}

GenerationRequest::GenerationRequest(const EngineCall& call) : folder_(call.text("model")) {
  read_options(call);
  options_.check();
  tokenizer_ = model_tokenizer(call);
  if (tokenizer_ != nullptr) chat_ = text::load_chat_template(folder_);
  if (!stops_.empty()) need_tokenizer();
  if (!stops_.empty() && options_.num_beams > 1) {
    throw_bad_input("stop strings and beams don't go together", {}, "one of --stop and --num-beams",
                    "the command line");
  }
  ModelLoadOptions load_options;
  if (const std::string dtype = call.text("dtype"); !dtype.empty()) {
    load_options.dtype = dtype;
    load_options.compute_dtype = dtype;
  }
  load_options.device = call.text("device");
  load_options.files = model_files(call);
  if (const Value& named = call.option("adapters"); !named.is_null()) {
    for (const auto& [name, folder] : named.as_table()) {
      std::shared_ptr<Adapter> adapter = call.create<Adapter>(adapter_section(name));
      adapter->open(folder.as_string());
      load_options.further_adapters.push_back(adapter);
      adapters_.emplace(name, std::move(adapter));
    }
  }
  loaded_ =
      load_model(*call.create<ModelProvider>("model"), folder_, load_options, call.adapter("peft"));
  require_language_model(loaded_, "generate");
  // Of several none is on until a request chooses it.
  if (adapters_.size() > 1) use_adapter("", {});
  if (!call.flag("ignore-eos")) options_.stop_ids = stop_ids_of(loaded_);
}

void GenerationRequest::use_adapter(const std::string& name, const std::string& where) {
  const auto chosen = adapters_.find(name);
  if (!name.empty() && chosen == adapters_.end()) {
    std::vector<std::string> names;
    for (const auto& entry : adapters_) names.push_back(entry.first);
    throw_bad_input("there is no adapter of this name", name,
                    names.empty() ? "--adapter NAME=DIR" : "one of " + join_names(names), where,
                    did_you_mean(name, names));
  }
  // All off first: what one takes away from the model another may have put there.
  for (const auto& entry : adapters_) entry.second->set_enabled(false);
  if (chosen != adapters_.end()) chosen->second->set_enabled(true);
}

void GenerationRequest::read_options(const EngineCall& call) {
  SamplingOptions& sampling = options_.sampling;
  const auto read = [&](const char* name, auto& target, bool samples = false) {
    const Value& value = call.option(name);
    if (value.is_null()) return;
    if constexpr (std::is_same_v<std::decay_t<decltype(target)>, double>)
      target = value.as_float();
    else
      target = value.as_int();
    sampling.sample = sampling.sample || samples;
  };
  constexpr bool kSamples = true;
  read("max-new-tokens", options_.max_new_tokens);
  read("num-answers", options_.num_answers);
  read("num-beams", options_.num_beams);
  read("length-penalty", options_.length_penalty);
  read("temperature", sampling.temperature, kSamples);
  read("top-h", sampling.top_h, kSamples);
  read("top-k", sampling.top_k, kSamples);
  read("top-p", sampling.top_p, kSamples);
  read("min-p", sampling.min_p, kSamples);
  read("typical-p", sampling.typical_p, kSamples);
  read("epsilon-cutoff", sampling.epsilon_cutoff, kSamples);
  read("eta-cutoff", sampling.eta_cutoff, kSamples);
  read("repetition-penalty", sampling.repetition_penalty);
  read("no-repeat-ngram-size", sampling.no_repeat_ngram_size);
  read("min-new-tokens", sampling.min_new_tokens);
  if (const Value& seed = call.option("seed"); !seed.is_null())
    sampling.seed = static_cast<std::uint64_t>(seed.as_int());
  options_.early_stopping = early_stopping(call.text("early-stopping"));
  options_.log_probabilities = call.flag("log-probs");
  if (const Value& stops = call.option("stop"); !stops.is_null()) {
    for (const Value& stop : stops.as_array()) stops_.push_back(stop.as_string());
  }
  if (options_.num_answers > 1 && options_.num_beams == 1 && !sampling.sample) {
    throw_bad_input("several answers without sampling would all be the same",
                    std::to_string(options_.num_answers), "1", "--num-answers",
                    "give --temperature 1, or --num-beams");
  }
}

const Tokenizer& GenerationRequest::need_tokenizer() const {
  if (tokenizer_ != nullptr) return *tokenizer_;
  throw_bad_input("the model folder has no tokenizer", {}, "tokenizer.json", folder_,
                  "give the prompt as --prompt-ids");
}

std::vector<std::int64_t> GenerationRequest::encode(const std::string& text) const {
  return widened(need_tokenizer().encode(text, true));
}

void GenerationRequest::require_chat() const {
  need_tokenizer();
  if (chat_ == nullptr) {
    throw_bad_input("the model has no chat template", {},
                    "chat_template.jinja or chat_template in tokenizer_config.json", folder_,
                    "use generate --prompt with plain text");
  }
}

std::vector<std::int64_t> GenerationRequest::encode_chat(const Value& messages) const {
  require_chat();
  return widened(tokenizer_->encode(chat_->render(messages, Value(), true).text, false));
}

}  // namespace espalier

// espalier recipe new: looks at a model and at data, and drafts a recipe for both.
#include "engine/commands/engine_command.h"
#include "engine/data/data_recognition.h"
#include "engine/data/data_report.h"
#include "engine/run/model_files.h"
#include "engine/run/model_inspection.h"
#include "engine/run/recipe_draft.h"
#include "espalier/base/error.h"
#include "text/chat_template_loader.h"

namespace espalier {
namespace {

constexpr std::string_view kCandidate = "candidate.";
constexpr std::uint64_t kSeed = 42;

std::vector<DataPattern> patterns_of(const EngineCall& call) {
  std::vector<DataPattern> patterns;
  for (const auto& [key, chosen] : call.request.components) {
    if (!key.starts_with(kCandidate)) continue;
    const Value* known = chosen.component.component->properties.find("recognises");
    if (known == nullptr) continue;
    for (const Value& one : known->as_array())
      patterns.push_back(DataPattern::from_value(key, one));
  }
  return patterns;
}

/// Names of labels go into the setting that stands for them; without names it is left out.
void settle_labels(DataPattern& pattern, const LabelSet& labels) {
  if (!labels.names.empty()) return;
  Table kept;
  for (const auto& [key, value] : pattern.settings.as_table()) {
    if (!(value == Value("{labels}"))) kept.set(key, value);
  }
  pattern.settings = Value(std::move(kept));
}

DataReport look_at(const EngineCall& call, const DraftFacts& facts) {
  const plugin::ComponentRef& component =
      call.request.components.at(facts.pattern.component).component;
  const Value settings = dataset_settings(facts.pattern, facts.data, facts.labels,
                                          sample_length(facts.inspection.shape.max_positions));
  const std::shared_ptr<Dataset> dataset = call.host.create<Dataset>(component, settings);
  DatasetContext context;
  const std::string folder = call.text("model");
  context.tokenizer = model_tokenizer(call);
  if (context.tokenizer != nullptr) context.chat_template = text::load_chat_template(folder);
  context.model_folder = folder;
  context.seed = kSeed;
  context.note = [](const std::string&) {};
  dataset->open(context);
  if (dataset->size() <= 0)
    throw_bad_input("the dataset has no samples", "0", "at least one", facts.data);
  LoaderOptions options;
  options.max_length = facts.inspection.shape.max_positions;
  options.rows_per_batch = 8;
  options.rows_per_step = 32;
  return report_on(dataset, options, context.tokenizer.get(), 0);
}

}  // namespace

int run_recipe_new(const EngineCall& call) {
  DraftFacts facts;
  facts.model = call.text("model-name");
  facts.data = call.text("data");
  facts.output = call.text("output");
  facts.adapter = call.text("adapter-name");
  facts.has_lr = call.flag("has-lr");
  facts.inspection =
      inspect_model(*call.create<ModelProvider>("model"), call.text("model"), model_files(call));
  const std::vector<DataPattern> patterns = patterns_of(call);
  facts.sketch = sketch_data(facts.data, patterns);
  facts.pattern = recognise(facts.sketch, patterns, facts.data);
  if (!facts.pattern.label.empty())
    facts.labels = labels_of(facts.sketch.file, facts.pattern.label);
  settle_labels(facts.pattern, facts.labels);
  const plugin::ComponentRef& component =
      call.request.components.at(facts.pattern.component).component;
  facts.dataset = component.component->name;
  facts.has_split = component.component->schema.find("split") != nullptr;
  facts.report = look_at(call, facts);
  const Value& memory = call.option("memory");
  facts.memory_bytes =
      memory.is_null() ? available_memory() : static_cast<std::int64_t>(memory.as_float() * 1e9);
  const RecipeDraft draft = draft_recipe(facts);
  Table answer;
  answer.set("toml", draft.toml);
  Array choices;
  for (const std::string& choice : draft.choices) choices.emplace_back(choice);
  answer.set("choices", std::move(choices));
  *call.request.answer = Value(std::move(answer));
  return 0;
}

}  // namespace espalier

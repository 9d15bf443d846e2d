#include "engine/run/recipe_draft.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "engine/run/machine.h"
#include "engine/run/memory_plan.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr double kMemoryShare = 0.8;    // of what is free, that a run may plan to take
constexpr std::int64_t kAdamBytes = 8;  // state of a parameter: two float32
constexpr std::int64_t kAdapterRank = 16;
constexpr std::int64_t kMostSampleLength = 2048;
constexpr std::int64_t kFewSamples = 64;     // below, no part is held back for validation
constexpr std::int64_t kManySamples = 5000;  // from there on, one pass over the data
constexpr double kPoorPacking = 0.7;         // share of real tokens in padded batches
constexpr std::int64_t kMostLocalBatch = 8;
constexpr std::int64_t kGlobalBatch = 32;

/// A value on one line of TOML.
std::string toml_value(const Value& value) {
  if (value.is_table()) {
    std::string text = "{";
    for (const auto& [key, item] : value.as_table())
      text += (text.size() > 1 ? ", " : "") + key + " = " + toml_value(item);
    return text + "}";
  }
  if (value.is_array()) {
    std::string text = "[";
    for (const Value& item : value.as_array())
      text += (text.size() > 1 ? ", " : "") + toml_value(item);
    return text + "]";
  }
  std::string text = dump_json(value);
  if (!value.is_string()) return text;
  // "${" would be taken for an environment variable.
  for (std::size_t at = text.find("${"); at != std::string::npos; at = text.find("${", at + 3))
    text.insert(at, "$");
  return text;
}

std::string filled(std::string text, const std::string& path, std::int64_t length) {
  const auto replace = [&](const std::string& name, const std::string& by) {
    const std::size_t at = text.find(name);
    if (at != std::string::npos) text.replace(at, name.size(), by);
  };
  replace("{path}", path);
  replace("{stem}", std::filesystem::path(path).replace_extension().string());
  replace("{length}", std::to_string(length));
  return text;
}

Value filled(const Value& value, const std::string& path, std::int64_t length) {
  if (value.is_string()) {
    if (value.as_string() == "{length}") return length;
    return filled(value.as_string(), path, length);
  }
  if (!value.is_table()) return value;
  Table table;
  for (const auto& [key, item] : value.as_table()) table.set(key, filled(item, path, length));
  return table;
}

class Draft {
 public:
  explicit Draft(const DraftFacts& facts) : facts_(facts) {
    plain_ = facts.pattern.sections.as_table().empty();
    choose_memory();
    choose_steps();
  }

  RecipeDraft write() {
    model();
    data();
    steps();
    sections();
    optimizer();
    extras();
    return {head() + toml_, std::move(choices_)};
  }

 private:
  void line(const std::string& text) { toml_ += text + "\n"; }
  void comment(const std::string& text) {
    line("# " + text);
    choices_.push_back(text);
  }

  std::string head() const {
    return "# Drafted by `espalier recipe new` for this model, this data and this machine. Train "
           "with it:\n#   espalier train " +
           facts_.output +
           "\n# Every setting is explained by `espalier plugins inspect NAME` and in "
           "docs/recipes.md.\noutput_dir = " +
           toml_value("runs/" + std::filesystem::path(facts_.output).stem().string()) + "\n\n";
  }

  /// Tokens of the longest row, and how many of them are learnt.
  std::int64_t row_tokens() const {
    return packing_ > 0 ? packing_ : std::max<std::int64_t>(1, facts_.report.percentile(0.99));
  }

  MemoryPlan plan(bool full, std::int64_t rows) const {
    const ModelInspection& model = facts_.inspection;
    MemoryPlanInput input;
    const std::int64_t adapter = kAdapterRank * model.linear_width;
    const std::int64_t stored = model.stored_bytes > 0 ? model.stored_bytes : model.parameters * 4;
    input.parameter_bytes = stored + (full ? 0 : 4 * adapter);
    input.trainable_bytes = full ? stored : 4 * adapter;
    input.optimizer_bytes = kAdamBytes * (full ? model.parameters : adapter);
    input.tokens = rows * row_tokens();
    const double share = facts_.report.tokens == 0
                             ? 1.0
                             : static_cast<double>(facts_.report.label_tokens) /
                                   static_cast<double>(facts_.report.tokens);
    input.label_tokens =
        static_cast<std::int64_t>(std::ceil(share * static_cast<double>(input.tokens)));
    input.shape = model.shape;
    input.rows = input.tokens;
    return plan_memory(input);
  }

  bool fits(bool full, std::int64_t rows) const {
    return facts_.memory_bytes <= 0 || static_cast<double>(plan(full, rows).total()) <=
                                           kMemoryShare * static_cast<double>(facts_.memory_bytes);
  }

  void choose_memory() {
    const DataReport& report = facts_.report;
    const std::int64_t limit = facts_.inspection.shape.max_positions;
    const std::int64_t longest = std::max<std::int64_t>(1, report.percentile(1));
    if (plain_ && report.samples > 0 && report.padded_efficiency < kPoorPacking &&
        report.samples >= kFewSamples) {
      const std::int64_t rounded = (std::max<std::int64_t>(longest, 256) + 63) / 64 * 64;
      packing_ = limit > 0 ? std::min(rounded, limit) : rounded;
    }
    const bool adapts = !facts_.adapter.empty();
    full_ = !adapts || (fits(true, 1) && !facts_.pattern.adapter);
    local_ = kMostLocalBatch;
    while (local_ > 1 && !fits(full_, local_)) local_ /= 2;
  }

  void choose_steps() {
    const std::int64_t samples = facts_.report.samples;
    global_ = kGlobalBatch;
    while (global_ > local_ && samples > 0 && samples / global_ < 20) global_ /= 2;
    global_ = std::max(global_, local_);
    validates_ = facts_.has_split && samples >= kFewSamples;
    const std::int64_t trained = validates_ ? samples * 95 / 100 : samples;
    epochs_ = samples >= kManySamples ? 1 : 3;
    // Packed rows are fewer than samples.
    const std::int64_t rows =
        packing_ > 0 && facts_.report.looked_at > 0
            ? std::max<std::int64_t>(
                  1, trained * facts_.report.tokens / facts_.report.looked_at / packing_)
            : trained;
    per_epoch_ = std::max<std::int64_t>(1, (rows + global_ - 1) / global_);
    every_ = std::max<std::int64_t>(1, per_epoch_ / 4);
  }

  void model() {
    const ModelInspection& model = facts_.inspection;
    const bool weights = model.stored_bytes > 0;
    char text[160];
    std::snprintf(text, sizeof text, "%.1f million parameters; positions up to %lld.",
                  static_cast<double>(model.parameters) / 1e6,
                  static_cast<long long>(model.shape.max_positions));
    comment(text);
    line("[model]");
    line("path = " + toml_value(facts_.model));
    if (!weights) {
      comment("The folder has no weights: training starts with random ones.");
      line("from_config = true");
    }
    const Value* extra = facts_.pattern.sections.find("model");
    if (extra != nullptr) {
      for (const auto& [key, value] : extra->as_table()) line(key + " = " + toml_value(value));
    }
    if (facts_.labels.count > 0) {
      comment(std::to_string(facts_.labels.count) + " labels are in the data.");
      line("config = {num_labels = " + std::to_string(facts_.labels.count) + "}");
    }
    line("");
  }

  void data() {
    const DataReport& report = facts_.report;
    std::string size =
        report.samples < 0 ? "A stream of samples" : std::to_string(report.samples) + " samples";
    if (facts_.sketch.files > 1) size += " in " + std::to_string(facts_.sketch.files) + " files";
    comment("Taken for '" + facts_.dataset + "' because of " + facts_.pattern.to_string() + ". " +
            size + "; tokens of a sample: median " + std::to_string(report.percentile(0.5)) +
            ", longest " + std::to_string(report.percentile(1)) + ".");
    if (report.truncated > 0)
      comment(std::to_string(report.truncated) +
              " samples are longer than the model takes and "
              "will be cut to " +
              std::to_string(report.max_length) + " tokens.");
    const Value settings = dataset_settings(facts_.pattern, facts_.data, facts_.labels,
                                            sample_length(facts_.inspection.shape.max_positions));
    const auto section = [&](const std::string& name, const std::string& split) {
      line("[" + name + "]");
      line("type = " + toml_value(facts_.dataset));
      for (const auto& [key, value] : settings.as_table()) line(key + " = " + toml_value(value));
      if (!split.empty()) line("split = " + toml_value(split));
      line("");
    };
    section("dataset", validates_ ? "train[:95%]" : "");
    if (validates_) {
      comment("The last 5 % are held back to see whether what is learnt holds elsewhere.");
      section("validation_dataset", "train[95%:]");
    } else {
      line("# There is no validation: " +
           std::string(facts_.has_split ? "the samples are few." : "name other data for it.") +
           " With data of its own:\n# [validation_dataset]\n# path = \"...\"\n");
    }
    if (packing_ == 0) return;
    char share[64];
    std::snprintf(share, sizeof share, "%.0f %%", 100 * report.padded_efficiency);
    comment("Lengths differ much (padded batches would hold " + std::string(share) +
            " tokens): several samples share a row and don't see each other.");
    line("[packed_sequence]");
    line("packed_sequence_size = " + std::to_string(packing_));
    line("packing_strategy = \"best_fit\"\n");
  }

  void steps() {
    const MemoryPlan memory = plan(full_, local_);
    comment("About " + std::to_string(per_epoch_) + " steps an epoch. A micro-batch of " +
            std::to_string(local_) + " rows plans for " + bytes_text(memory.total()) +
            (facts_.memory_bytes > 0
                 ? " of the " + bytes_text(facts_.memory_bytes) + " that are free here."
                 : "."));
    if (!fits(full_, local_))
      comment(
          "That is more than 80 % of it: expect to run out of memory, and see "
          "docs/performance.md.");
    line("[step_scheduler]");
    line("global_batch_size = " + std::to_string(global_));
    line("local_batch_size = " + std::to_string(local_));
    if (facts_.report.samples < 0) {
      line("max_steps = 1000");
    } else {
      line("num_epochs = " + std::to_string(epochs_));
    }
    if (validates_) line("val_every_steps = " + std::to_string(every_));
    line("ckpt_every_steps = " + std::to_string(every_));
    line("");
  }

  void sections() {
    for (const auto& [name, section] : facts_.pattern.sections.as_table()) {
      if (name == "model") continue;
      line("# What this kind of data is learnt by.");
      line("[" + name + "]");
      for (const auto& [key, value] : section.as_table()) line(key + " = " + toml_value(value));
      line("");
    }
  }

  void optimizer() {
    const bool weights = facts_.inspection.stored_bytes > 0;
    if (!full_) {
      comment(facts_.pattern.adapter
                  ? "What is learnt compares the model with itself before training: an adapter is "
                    "trained beside it, which can be switched off."
                  : "Training all weights plans for " + bytes_text(plan(true, 1).total()) +
                        ", more than fits: a small adapter is trained beside them.");
      line("[peft]");
      line("type = " + toml_value(facts_.adapter));
      line("dim = " + std::to_string(kAdapterRank));
      line("alpha = " + std::to_string(2 * kAdapterRank));
      line("match_all_linear = true\n");
    } else if (!facts_.adapter.empty() && weights) {
      line("# All weights are trained; to train a small adapter beside them:\n# [peft]\n# type = " +
           toml_value(facts_.adapter) + "\n# match_all_linear = true\n");
    }
    if (!facts_.has_lr) return;
    const char* lr = !full_ ? "2e-4" : weights ? "1e-5" : "3e-4";
    comment(std::string("A usual rate for ") + (!full_ ? "adapters."
                                                : weights
                                                    ? "training all weights of a trained model."
                                                    : "starting from random weights."));
    line("[optimizer]");
    line(std::string("lr = ") + lr + "\n");
  }

  void extras() {
    line("[checkpoint]");
    line("max_recent_checkpoints = 2");
    if (validates_) {
      comment("The checkpoint with the best validation loss is kept as checkpoints/best.");
      line("best_metric = \"validation.loss\"");
      if (plain_)
        line(
            "\n# Texts that the model writes at each validation, for samples.jsonl and `espalier "
            "report`:\n# [generation_samples]\n# prompts = [\"...\"]");
    }
  }

  const DraftFacts& facts_;
  bool plain_ = true;  ///< next-token prediction
  bool full_ = true;
  bool validates_ = false;
  std::int64_t packing_ = 0;
  std::int64_t local_ = 1;
  std::int64_t global_ = 1;
  std::int64_t epochs_ = 1;
  std::int64_t per_epoch_ = 1;
  std::int64_t every_ = 1;
  std::string toml_;
  std::vector<std::string> choices_;
};

/// A number in a file of the kernel; the largest where there is none.
std::int64_t number_in(const char* path) {
  std::ifstream file(path);
  std::int64_t number = 0;
  return file >> number ? number : std::numeric_limits<std::int64_t>::max();
}

}  // namespace

Value dataset_settings(const DataPattern& pattern, const std::string& path, const LabelSet& labels,
                       std::int64_t length) {
  Value settings = filled(pattern.settings, path, length);
  if (labels.names.empty()) return settings;
  for (auto& [key, value] : settings.as_table()) {
    if (!(value == Value("{labels}"))) continue;
    Array names;
    for (const std::string& name : labels.names) names.emplace_back(name);
    value = Value(std::move(names));
  }
  return settings;
}

std::int64_t sample_length(std::int64_t max_positions) {
  return max_positions > 0 ? std::min(max_positions, kMostSampleLength) : kMostSampleLength;
}

RecipeDraft draft_recipe(const DraftFacts& facts) { return Draft(facts).write(); }

std::int64_t available_memory() {
  std::int64_t free = 0;
  std::ifstream file("/proc/meminfo");
  for (std::string text; std::getline(file, text);) {
    std::istringstream words(text);
    std::string name;
    std::int64_t kilobytes = 0;
    if (words >> name >> kilobytes && name == "MemAvailable:") free = kilobytes * 1024;
  }
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const std::int64_t used = number_in("/sys/fs/cgroup/memory.current");
  return limit > used ? std::min(free, limit - used) : free;
}

}  // namespace espalier

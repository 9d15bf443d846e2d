#include "config/reference_recipe.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <regex>

#include "config/key_rules.h"
#include "config/model_path.h"
#include "config/reference_sections.h"
#include "config/sections.h"
#include "config/yaml_reader.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::config {
namespace {

using plugin::Catalog;
using plugin::ComponentRef;

/// Value of a default that says whether the model's folder has a chat template.
constexpr const char* kHasChatTemplate = "@has_chat_template";
/// A schedule without a target is this one.
constexpr const char* kSchedule =
    "nemo_automodel.components.optim.scheduler.OptimizerParamScheduler";
/// The alias of what a section without a word means.
constexpr const char* kUnsaid = "default";
constexpr std::array kLoaders = {"torchdata.stateful_dataloader.StatefulDataLoader",
                                 "torch.utils.data.DataLoader"};
constexpr std::array kCollators = {
    "nemo_automodel.components.datasets.utils.default_collater",
    "nemo_automodel.components.datasets.utils.packed_sequence_thd_collater"};

/// "a.b.C" -> "C".
std::string last_part(const std::string& target) { return target.substr(target.rfind('.') + 1); }

template <class Names>
bool is_among(const Names& names, const std::string& text) {
  return std::find(names.begin(), names.end(), text) != names.end();
}

bool holds_target(const Value& value) {
  if (value.is_array())
    return std::any_of(value.as_array().begin(), value.as_array().end(), holds_target);
  if (!value.is_table()) return false;
  return std::any_of(value.as_table().begin(), value.as_table().end(), [](const auto& member) {
    return member.first == "_target_" || holds_target(member.second);
  });
}

/// {"enabled": false} or {"enable": false}: a section that is there and switched off.
bool is_switched_off(const Value& section) {
  for (const char* key : {"enabled", "enable"}) {
    const Value* value = section.find(key);
    if (value != nullptr && *value == Value(false)) return true;
  }
  return false;
}

class Translator {
 public:
  Translator(const Value& tree, const Catalog& catalog) : tree_(tree), catalog_(catalog) {}

  TranslatedRecipe run() {
    choose_objective();
    for (const auto& [key, value] : tree_.as_table()) translate_section(key, value);
    add_objective();
    problems_.throw_if_any();
    return {Value(std::move(out_)).at(tree_.position()), std::move(notes_)};
  }

 private:
  struct Alias {
    ComponentRef component;
    const Table* keys = nullptr;
  };

  std::optional<Alias> find_alias(std::string_view interface, const std::string& target) const {
    for (const ComponentRef& ref : catalog_.components(interface)) {
      const Value* keys = ref.component->aliases.find(target);
      if (keys != nullptr) return Alias{ref, &keys->as_table()};
    }
    return std::nullopt;
  }

  void add_missing(std::string_view interface, const std::string& path, const std::string& target,
                   const Value& at) {
    std::vector<std::string> names;
    for (const ComponentRef& ref : catalog_.components(interface))
      for (const auto& [name, keys] : ref.component->aliases) names.push_back(name);
    std::string nearest;
    std::size_t least = SIZE_MAX;
    for (const std::string& name : names) {
      const std::size_t distance = edit_distance(last_part(name), last_part(target));
      if (distance < least) {
        least = distance;
        nearest = name;
      }
    }
    problems_.add({.code = ErrorCode::kUnsupported,
                   .what = "'" + path + "' has no counterpart among the plugins",
                   .found = target,
                   .expected = names.empty() ? "a plugin that declares it" : join_names(names),
                   .where = at.position().to_string(),
                   .hint = nearest.empty() ? std::string() : "the nearest is " + nearest});
  }

  void translate_section(const std::string& key, const Value& value) {
    if (key == "recipe" || is_objective_key(key)) return;
    // What has a counterpart is switched off by it, all else by being left out.
    const bool has_counterpart = reference_sections().find(key) != nullptr;
    if (value.is_null() || (is_switched_off(value) && !has_counterpart)) return;
    if (key == "seed" || key == "output_dir" || key == "device") {
      out_.set(key, value);
    } else if (key == "rng" || key == "ci") {
      notes_.push_back("[" + key + "] is left out: the trainer of the reference does not read it");
    } else if (key.starts_with("validation_dataloader")) {
      Table nowhere;
      translate_loader(key, value, nowhere);
      notes_.push_back("[" + key + "] is left out: validation data is loaded as training data is");
    } else {
      translate_table_section(key, value);
    }
  }

  void translate_table_section(const std::string& key, const Value& value) {
    const Section* section = find_section(key);
    const Value* rules = reference_sections().find(key);
    if (!value.is_table()) {
      add_unknown(key, value);
      return;
    }
    if (key == "model" || key == "teacher_model") {
      translate_model(key, value);
    } else if (key == "dataloader") {
      Table loader;
      translate_loader(key, value, loader);
      out_.set(key, Value(std::move(loader)).at(value.position()));
    } else if (key == "distributed" || key == "dist_env") {
      translate_choice(key, value);
    } else if (section != nullptr && !section->interface.empty() && key != "objective" &&
               key != "kernels") {
      translate_component(key, value, std::string(section->interface));
    } else if (rules != nullptr) {
      translate_host_section(key, value, *rules);
    } else {
      add_unknown(key, value);
    }
  }

  void add_unknown(const std::string& key, const Value& value) {
    std::vector<std::string> names;
    for (const Section& section : sections())
      if (!section.name.empty()) names.emplace_back(section.name);
    problems_.add({.code = ErrorCode::kUnsupported,
                   .what = "the section '" + key + "' has no counterpart",
                   .found = value.is_table() ? std::string() : dump_json(value),
                   .expected = "one of " + join_names(names),
                   .where = value.position().to_string(),
                   .hint = did_you_mean(key, names)});
  }

  Table translated(const std::string& path, const Value& value, const Table& rules,
                   const SchemaSpec* schema, const std::vector<std::string>& done) {
    return KeyRules(rules, schema, problems_, notes_).translate(value, path, out_, done);
  }

  void translate_host_section(const std::string& key, const Value& value, const Value& rules) {
    const SchemaSpec schema = find_section(key)->schema();
    out_.set(key,
             Value(translated(key, value, rules.as_table(), &schema, {})).at(value.position()));
  }

  /// Class and method of "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained".
  void translate_model(const std::string& key, const Value& value) {
    static constexpr std::pair<const char*, const char*> kTasks[] = {
        {"AutoModelForCausalLM", "auto"},
        {"AutoModelForSequenceClassification", "sequence_classification"},
        {"AutoModelForTokenClassification", "token_classification"}};
    static const std::regex kPattern(
        R"((nemo_automodel|transformers)(\.[a-z_.]+)?\.(NeMo)?(AutoModelFor\w+)\.(from_pretrained|from_config))");
    const Value* target = value.find("_target_");
    std::smatch match;
    const std::string text = target != nullptr && target->is_string() ? target->as_string() : "";
    const auto* task = std::end(kTasks);
    if (std::regex_match(text, match, kPattern)) {
      task = std::find_if(std::begin(kTasks), std::end(kTasks),
                          [&](const auto& entry) { return match[4] == entry.first; });
    }
    if (task == std::end(kTasks)) {
      problems_.add({.code = ErrorCode::kUnsupported,
                     .what = "'" + key + "' has no counterpart",
                     .found = text.empty() ? "no _target_" : text,
                     .expected = "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained or "
                                 ".from_config, or of the classes for sequence and token "
                                 "classification",
                     .where = (target != nullptr ? *target : value).position().to_string()});
      return;
    }
    const SchemaSpec schema = find_section(key)->schema();
    Value known = value;
    Table overrides;
    split_overrides(known.as_table(), schema, reference_sections().find(key)->as_table(),
                    overrides);
    Table out = translated(key, known, reference_sections().find(key)->as_table(), &schema,
                           {"_target_", "config"});
    if (match[5] == "from_config") add_from_config(value, key, out);
    if (task->second != std::string_view("auto")) out.set("task", task->second);
    if (!overrides.empty()) out.set("config", std::move(overrides));
    out_.set(key, Value(std::move(out)).at(value.position()));
  }

  /// Other keys of from_pretrained are keys of the model's config, and so is a table `config`.
  static void split_overrides(Table& known, const SchemaSpec& schema, const Table& rules,
                              Table& overrides) {
    std::vector<std::string> moved;
    for (const auto& [key, value] : known) {
      if (key == "config" && value.is_table() && value.find("_target_") == nullptr) {
        for (const auto& [name, member] : value.as_table()) overrides.set(name, member);
      } else if (key != "_target_" && key != "config" && !rules.contains(key) &&
                 schema.find(key) == nullptr && !value.is_null() &&
                 schema.find("config") != nullptr) {
        overrides.set(key, value);
        moved.push_back(key);
      }
    }
    for (const std::string& key : moved) known.erase(key);
  }

  void add_from_config(const Value& value, const std::string& key, Table& out) {
    const Value* config = value.find("config");
    const Value* path = config;
    if (config != nullptr && config->is_table()) {
      const Value* target = config->find("_target_");
      const bool from_folder = target != nullptr && target->is_string() &&
                               target->as_string() == "transformers.AutoConfig.from_pretrained";
      path = from_folder ? config->find("pretrained_model_name_or_path") : nullptr;
    }
    if (path == nullptr || !path->is_string()) {
      problems_.add({.code = ErrorCode::kUnsupported,
                     .what = "'" + key + ".config' has no counterpart",
                     .found = config == nullptr ? std::string() : dump_json(*config),
                     .expected = "a model's folder or id, or transformers.AutoConfig."
                                 "from_pretrained of one",
                     .where = (config != nullptr ? *config : value).position().to_string()});
      return;
    }
    out.set("path", *path);
    out.set("from_config", true);
    const Value* dtype = out.find("dtype");
    if (dtype == nullptr || *dtype == Value("auto")) out.set("dtype", "bfloat16");
  }

  void translate_loader(const std::string& key, const Value& value, Table& out) {
    const auto check_target = [&](const std::string& path, const Value& target, const auto& known) {
      if (target.is_string() && is_among(known, target.as_string())) return;
      std::string expected;
      for (const char* name : known) expected.append(expected.empty() ? "" : ", ").append(name);
      problems_.add({.code = ErrorCode::kUnsupported,
                     .what = "'" + path + "' has no counterpart",
                     .found = dump_json(target),
                     .expected = expected,
                     .where = target.position().to_string()});
    };
    if (const Value* target = value.find("_target_")) check_target(key, *target, kLoaders);
    if (const Value* collate = value.find("collate_fn")) {
      const Value* target = collate->is_table() ? collate->find("_target_") : collate;
      if (target != nullptr) check_target(key + ".collate_fn", *target, kCollators);
      if (const Value* divisible = collate->find("pad_seq_len_divisible"))
        out.set("pad_seq_len_divisible", *divisible);
    }
    if (value.find("batch_size") != nullptr)
      notes_.push_back(key + ".batch_size is left out: step_scheduler.local_batch_size counts");
    const SchemaSpec schema = find_section("dataloader")->schema();
    Table rest = translated(key, value, reference_sections().find("dataloader")->as_table(),
                            &schema, {"_target_", "collate_fn", "batch_size"});
    for (auto& [name, member] : rest) out.set(name, std::move(member));
  }

  /// Sections that choose by a word: distributed.strategy, dist_env.backend.
  void translate_choice(const std::string& key, const Value& value) {
    const bool strategy = key == "distributed";
    const std::string word = strategy ? "strategy" : "backend";
    const Value* target = value.find("_target_");
    if (target == nullptr) target = value.find(word);
    Value standard(kUnsaid);
    standard.at(value.position());
    translate_target(key, value, std::string(find_section(key)->interface),
                     target == nullptr ? standard : *target, {"_target_", word});
  }

  void translate_component(const std::string& key, const Value& value,
                           const std::string& interface) {
    const Value* target = value.find("_target_");
    Value schedule(kSchedule);
    if (target == nullptr && interface == "LrScheduler") target = &schedule;
    if (target == nullptr && key.starts_with("validation_dataset"))
      target = tree_.find_path("dataset._target_");
    if (target == nullptr || !target->is_string()) {
      problems_.add({.what = "'" + key + "' names no target",
                     .expected = "_target_: a class or function",
                     .where = value.position().to_string()});
      return;
    }
    translate_target(key, value, interface, *target, {"_target_"});
  }

  void translate_target(const std::string& key, const Value& value, const std::string& interface,
                        const Value& target, std::vector<std::string> done) {
    const auto alias = find_alias(interface, target.as_string());
    if (!alias) {
      add_missing(interface, key, target.as_string(), target);
      return;
    }
    if (interface == "Dataset") {
      check_tokenizer(key, value);
      done.emplace_back("tokenizer");
    }
    Table settings =
        translated(key, value, *alias->keys, &alias->component.component->schema, done);
    if (interface == "Dataset") settle_dataset(settings);
    Table out;
    out.set("type", alias->component.component->name);
    for (auto& [name, member] : settings) out.set(name, std::move(member));
    out_.set(key, Value(std::move(out)).at(value.position()));
  }

  /// Data is tokenized as the model's folder says; another tokenizer has no place.
  void check_tokenizer(const std::string& key, const Value& value) {
    const Value* tokenizer = value.find("tokenizer");
    if (tokenizer == nullptr || tokenizer->is_null()) return;
    const Value* path = tokenizer->find("pretrained_model_name_or_path");
    const Value* model = tree_.find_path("model.pretrained_model_name_or_path");
    if (model == nullptr) model = tree_.find_path("model.config");
    if (path != nullptr && model != nullptr && *path == *model) return;
    problems_.add({.code = ErrorCode::kUnsupported,
                   .what = "'" + key +
                           ".tokenizer' has no counterpart: data is tokenized by the "
                           "model's own tokenizer",
                   .found = dump_json(path != nullptr ? *path : *tokenizer),
                   .expected = model != nullptr ? dump_json(*model) : "the model's",
                   .where = tokenizer->position().to_string()});
  }

  void settle_dataset(Table& settings) const {
    for (auto& [name, value] : settings) {
      if (value == Value(kHasChatTemplate)) value = Value(has_chat_template());
    }
    Value* path = settings.find("path");
    if (path == nullptr || !path->is_string() || std::filesystem::exists(path->as_string())) return;
    const std::string cached = find_cached_dataset(path->as_string());
    const SourcePosition position = path->position();
    if (!cached.empty()) *path = Value(cached).at(position);
  }

  bool has_chat_template() const {
    const Value* model = tree_.find_path("model.pretrained_model_name_or_path");
    if (model == nullptr || !model->is_string()) return false;
    try {
      const std::filesystem::path folder = resolve_model_path(model->as_string());
      if (std::filesystem::exists(folder / "chat_template.jinja")) return true;
      const std::filesystem::path config = folder / "tokenizer_config.json";
      return std::filesystem::exists(config) &&
             read_json_file(config.string()).find("chat_template") != nullptr;
    } catch (const Error&) {
      return false;  // what is wrong with the model is said when it is looked for
    }
  }

  void choose_objective() {
    const Value* recipe = tree_.find("recipe");
    if (recipe == nullptr) return;
    const Value* target = recipe->is_table() ? recipe->find("_target_") : recipe;
    if (target == nullptr || !target->is_string()) return;
    // By its class alone, or by the whole path.
    for (const ComponentRef& ref : catalog_.components("Objective")) {
      for (const auto& [name, keys] : ref.component->aliases) {
        if (name == target->as_string() || last_part(name) == target->as_string() ||
            last_part(name) == last_part(target->as_string()))
          objective_ = Alias{ref, &keys.as_table()};
      }
    }
    if (!objective_) add_missing("Objective", "recipe", target->as_string(), *target);
  }

  bool is_objective_key(const std::string& key) const {
    return objective_ && !key.empty() && objective_->keys->contains(key);
  }

  void add_objective() {
    if (!objective_) return;
    Table own;
    for (const auto& [key, value] : tree_.as_table())
      if (is_objective_key(key)) own.set(key, value);
    const Value table(std::move(own));
    Table settings = translated("recipe", table, *objective_->keys,
                                &objective_->component.component->schema, {});
    Table out;
    out.set("type", objective_->component.component->name);
    for (auto& [name, member] : settings) out.set(name, std::move(member));
    out_.set("objective", std::move(out));
  }

  const Value& tree_;
  const Catalog& catalog_;
  std::optional<Alias> objective_;
  Table out_;
  std::vector<std::string> notes_;
  ProblemList problems_;
};

void substitute(Value& value, ProblemList& problems) {
  static const std::regex kReference(
      R"(\$\{(?:oc\.env:)?([A-Za-z_][A-Za-z0-9_.]*)(?:,([^}]*))?\}|\$([A-Za-z_][A-Za-z0-9_.]*))");
  const SourcePosition position = value.position();
  const std::string text = value.as_string();
  std::string result;
  auto next = text.cbegin();
  for (std::sregex_iterator found(text.begin(), text.end(), kReference), end; found != end;
       ++found) {
    const std::smatch& match = *found;
    const std::string name = match[1].matched ? match[1].str() : match[3].str();
    result.append(next, match[0].first);
    next = match[0].second;
    if (const char* set = std::getenv(name.c_str())) {
      result += set;
    } else if (match[2].matched) {
      result += match[2].str();
    } else {
      problems.add({.what = "the environment variable " + name + " is not set",
                    .found = text,
                    .expected = "a value for " + name,
                    .where = position.to_string(),
                    .hint = "export " + name + "=..., or give a default: ${" + name + ",default}"});
      return;
    }
  }
  result.append(next, text.cend());
  value = python_literal(result).at(position);
}

}  // namespace

bool is_reference_recipe(const Value& tree) {
  return tree.is_table() && (tree.find("recipe") != nullptr || holds_target(tree));
}

void substitute_reference_environment(Value& tree, ProblemList& problems) {
  if (tree.is_table()) {
    for (auto& [key, member] : tree.as_table()) substitute_reference_environment(member, problems);
  } else if (tree.is_array()) {
    for (Value& item : tree.as_array()) substitute_reference_environment(item, problems);
  } else if (tree.is_string()) {
    substitute(tree, problems);
  }
}

TranslatedRecipe translate_reference_recipe(const Value& tree, const plugin::Catalog& catalog) {
  return Translator(tree, catalog).run();
}

}  // namespace espalier::config

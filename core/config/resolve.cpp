#include <algorithm>
#include <filesystem>
#include <optional>

#include "config/recipe.h"
#include "config/reference_recipe.h"
#include "config/sections.h"
#include "espalier/base/suggest.h"

namespace espalier::config {
namespace {

using plugin::Catalog;
using plugin::ComponentRef;

std::string member_path(const std::string& path, const std::string& key) {
  std::string joined = path;
  return joined.append(".").append(key);
}

class Resolver {
 public:
  Resolver(const Recipe& recipe, const Catalog& catalog) : recipe_(recipe), catalog_(catalog) {}

  ResolvedRecipe run() {
    // In the order of the file first, so that problems come in the order in which one reads it.
    for (const auto& [key, value] : recipe_.tree.as_table()) {
      if (const Section* section = find_section(key)) resolve_section(*section, key, value);
    }
    check_top_level();
    Value nothing{Table()};
    nothing.at({recipe_.path, 0, 0});
    for (const Section& section : sections()) {
      if (!section.name.empty() && recipe_.tree.find(section.name) == nullptr)
        resolve_absent(section, nothing);
    }
    problems_.throw_if_any();
    finish();
    problems_.throw_if_any();
    return std::move(result_);
  }

 private:
  void add(std::string what, std::string found, std::string expected, const Value& at,
           std::string hint) {
    problems_.add({ErrorCode::kBadInput, std::move(what), std::move(found), std::move(expected),
                   at.position().to_string(), std::move(hint)});
  }

  void add(const Error& error) {
    for (const Problem& problem : error.problems()) problems_.add(problem);
  }

  void check_top_level() {
    const SchemaSpec run = RunConfig::schema().spec();
    std::vector<std::string> names;
    for (const FieldSpec& field : run.fields) names.push_back(field.name);
    for (const Section& section : sections()) {
      if (!section.name.empty()) names.emplace_back(section.name);
    }
    Table own;
    for (const auto& [key, value] : recipe_.tree.as_table()) {
      if (run.find(key) != nullptr) {
        own.set(key, value);
      } else if (find_section(key) == nullptr) {
        const char* kind = value.is_table() ? "section" : "key";
        add(std::string("unknown ") + kind + " '" + key + "'", key, "one of " + join_names(names),
            value, did_you_mean(key, names));
      }
    }
    const Value table(std::move(own));
    check_config(run, table, "", problems_);
    resolved_.set("", with_defaults(run, table));
  }

  void resolve_section(const Section& section, const std::string& name, const Value& value) {
    if (!value.is_table()) {
      add("'" + name + "' is a section", std::string(type_phrase(value.type())), "a table", value,
          "write [" + name + "] on a line of its own, and its keys below");
    } else if (section.schema != nullptr) {
      const SchemaSpec schema = section.schema();
      check_config(schema, value, name, problems_);
      resolved_.set(name, with_defaults(schema, value));
      warn_deprecated(schema, value, name);
    } else if (const auto ref = choose_component(section, name, value)) {
      resolved_.set(name, resolve_component(*ref, value, name));
    }
  }

  void resolve_absent(const Section& section, const Value& nothing) {
    if (section.schema != nullptr) {
      resolve_section(section, std::string(section.name), nothing);
    } else if (section.has_default || section.required) {
      try {
        const std::string name(section.name);
        const auto ref = section.has_default ? catalog_.default_for(section.interface, section.name)
                                             : std::nullopt;
        if (ref)
          resolved_.set(name, resolve_component(*ref, nothing, name));
        else if (section.required)
          add_missing_type(section, nothing);
      } catch (const Error& error) {
        add(error);
      }
    }
  }

  /// The component that a section names, or its default.
  std::optional<ComponentRef> choose_component(const Section& section, const std::string& name,
                                               const Value& value) {
    const Value* type = value.find("type");
    if (type == nullptr && !section.type_like.empty())
      type = recipe_.tree.find_path(std::string(section.type_like) + ".type");
    try {
      if (type != nullptr) return component_of_type(section.interface, name, *type);
      if (section.has_default) {
        if (auto ref = catalog_.default_for(section.interface, section.name)) return ref;
      }
    } catch (const Error& error) {
      add(error);
      return std::nullopt;
    }
    add_missing_type(section, value);
    return std::nullopt;
  }

  std::optional<ComponentRef> component_of_type(std::string_view interface, std::string_view path,
                                                const Value& type) {
    if (!type.is_string()) {
      add("'" + std::string(path) + ".type' has the wrong type",
          std::string(type_phrase(type.type())), "the name of a " + std::string(interface), type,
          "put it in quotes");
      return std::nullopt;
    }
    return catalog_.component(interface, type.as_string(), type.position().to_string());
  }

  void add_missing_type(const Section& section, const Value& at) {
    std::vector<std::string> names;
    for (const ComponentRef& ref : catalog_.components(section.interface))
      names.push_back(ref.component->name);
    const std::string name(section.name);
    add("'" + name + ".type' is missing", {},
        names.empty() ? "a plugin with a " + std::string(section.interface) + "; none was found"
                      : "one of " + join_names(names),
        at, "add type = \"...\" to [" + name + "]");
  }

  /// Checks and completes the configuration of a component, and of those inside it.
  Value resolve_component(const ComponentRef& ref, const Value& value, const std::string& path) {
    const SchemaSpec& schema = ref.component->schema;
    const std::size_t before = problems_.problems().size();
    check_config(schema, value, path, problems_, {"type"});
    warn_deprecated(schema, value, path);
    Value config = with_defaults(schema, value);
    if (config.find("type") == nullptr) config = with_type(ref.component->name, config);
    const std::size_t place = result_.components.size();
    result_.components.push_back({path, ref, {}});
    // With problems of its own a value may have any shape.
    if (problems_.problems().size() == before) resolve_nested(schema, config, path);
    result_.components[place].config = config;
    return config;
  }

  static Value with_type(const std::string& name, const Value& config) {
    Table table;
    table.set("type", name);
    for (const auto& [key, value] : config.as_table()) table.set(key, value);
    Value typed(std::move(table));
    typed.at(config.position());
    return typed;
  }

  void resolve_nested(const SchemaSpec& schema, Value& config, const std::string& path) {
    for (auto& [key, value] : config.as_table()) {
      const FieldSpec* field = schema.find(key);
      if (field != nullptr && !value.is_null())
        resolve_nested_field(*field, value, member_path(path, key));
    }
  }

  void resolve_nested_field(const FieldSpec& field, Value& value, const std::string& path) {
    if (field.type == FieldType::kComponent) {
      try {
        const auto ref = component_of_type(field.interface, path, *value.find("type"));
        if (ref) value = resolve_component(*ref, value, path);
      } catch (const Error& error) {
        add(error);
      }
    } else if (field.type == FieldType::kList && field.element && value.is_array()) {
      Array& items = value.as_array();
      for (std::size_t i = 0; i < items.size(); ++i)
        resolve_nested_field(*field.element, items[i], path + "[" + std::to_string(i) + "]");
    } else if (field.type == FieldType::kMap && field.element) {
      for (auto& [key, item] : value.as_table())
        resolve_nested_field(*field.element, item, member_path(path, key));
    } else if (field.type == FieldType::kTable && field.table) {
      resolve_nested(*field.table, value, path);
    }
  }

  void warn_deprecated(const SchemaSpec& schema, const Value& value, const std::string& path) {
    for (const FieldSpec& field : schema.fields) {
      const Value* given = value.find(field.name);
      if (given == nullptr || field.deprecated.empty()) continue;
      result_.warnings.push_back(given->position().to_string() + ": '" + path + "." + field.name +
                                 "' is deprecated; use " + field.deprecated);
    }
  }

  template <class Config>
  Config typed(std::string_view section) const {
    return Config::schema().parse(*resolved_.find(section), section);
  }

  /// Typed configs, what follows from several keys together, and the tree in section order.
  void finish() {
    result_.run = typed<RunConfig>("");
    result_.model = typed<ModelConfig>("model");
    result_.dataloader = typed<DataloaderConfig>("dataloader");
    result_.packed_sequence = typed<PackedSequenceConfig>("packed_sequence");
    result_.step_scheduler = typed<StepSchedulerConfig>("step_scheduler");
    result_.clip_grad_norm = typed<ClipGradNormConfig>("clip_grad_norm");
    result_.checkpoint = typed<CheckpointConfig>("checkpoint");

    if (result_.run.output_dir.empty()) {
      const std::filesystem::path path(recipe_.path);
      result_.run.output_dir = "runs/" + path.stem().string();
      resolved_.find("")->as_table().set("output_dir", result_.run.output_dir);
    }
    finish_step_scheduler();

    Table tree;
    for (const auto& [key, member] : resolved_.find("")->as_table()) tree.set(key, member);
    for (const Section& section : sections()) {
      for (const auto& [name, value] : resolved_) {
        if (!name.empty() && find_section(name) == &section) tree.set(name, value);
      }
    }
    result_.tree = Value(std::move(tree));
  }

  void finish_step_scheduler() {
    StepSchedulerConfig& steps = result_.step_scheduler;
    Value& table = *resolved_.find("step_scheduler");
    if (!steps.max_steps && !steps.num_epochs) {
      steps.num_epochs = 1;
      table.as_table().set("num_epochs", 1);
    }
    if (steps.global_batch_size % steps.local_batch_size != 0) {
      const Value* global = table.find("global_batch_size");
      const Value* local = table.find("local_batch_size");
      add("'step_scheduler.global_batch_size' is no multiple of local_batch_size",
          std::to_string(steps.global_batch_size) + " and " +
              std::to_string(steps.local_batch_size),
          "a whole number of micro-batches in a step",
          global->position().file.empty() ? *local : *global,
          "choose a local_batch_size that divides " + std::to_string(steps.global_batch_size));
    }
  }

  const Recipe& recipe_;
  const Catalog& catalog_;
  ProblemList problems_;
  Table resolved_;  // section name -> completed table; "" -> the keys outside all sections
  ResolvedRecipe result_;
};

}  // namespace

ResolvedRecipe resolve_recipe(const Recipe& recipe, const Catalog& catalog) {
  if (!recipe.reference) return Resolver(recipe, catalog).run();
  TranslatedRecipe translated = translate_reference_recipe(recipe.tree, catalog);
  const Recipe native{recipe.path, std::move(translated.tree)};
  ResolvedRecipe resolved = Resolver(native, catalog).run();
  resolved.warnings.insert(resolved.warnings.begin(), translated.notes.begin(),
                           translated.notes.end());
  return resolved;
}

}  // namespace espalier::config

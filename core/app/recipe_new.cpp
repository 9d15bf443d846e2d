#include "app/recipe_new.h"

#include <cstdio>
#include <filesystem>
#include <optional>

#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/terminal.h"
#include "config/recipe.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier::app {
namespace {

constexpr const char* kText =
    "Looks at a model and at data, chooses what fits them and this machine, and writes a recipe "
    "with "
    "comments that say what was chosen and why. `espalier train` runs it as it is. Datasets are "
    "recognised by the fields of the records, or by the names of the files; each plugin says "
    "which.";

/// Everything that may come out, each under a key of its own.
EngineRequest request_for(const plugin::Catalog& catalog, const std::string& model) {
  EngineRequest request;
  request.command = "recipe new";
  request.options = Value(Table());
  add_model(request, catalog, model);
  for (const plugin::ComponentRef& dataset : catalog.components("Dataset")) {
    if (dataset.component->properties.contains("recognises"))
      request.components["candidate." + dataset.qualified_name()] = {dataset, Value(Table())};
  }
  Table& options = request.options.as_table();
  if (const auto adapter = catalog.default_for("Adapter", "peft")) {
    // One that takes what a draft says of an adapter.
    const SchemaSpec& schema = adapter->component->schema;
    const bool usual = schema.find("dim") != nullptr && schema.find("alpha") != nullptr &&
                       schema.find("match_all_linear") != nullptr;
    if (usual) options.set("adapter-name", adapter->component->name);
  }
  const auto optimizer = catalog.default_for("Optimizer", "optimizer");
  options.set("has-lr", optimizer && optimizer->component->schema.find("lr") != nullptr);
  return request;
}

}  // namespace

int run_recipe_new(const std::vector<std::string>& arguments) {
  std::string model;
  std::string data;
  std::string output;
  bool force = false;
  std::optional<double> memory;
  plugin::CatalogOptions plugins;
  Options options("recipe new --model DIR --data PATH --output RECIPE.toml", kText);
  options.value("model", model, "a model folder, or a hub id that is in the local cache", true)
      .value("data", data, "a file, a folder, or a pattern with * and ?", true)
      .value("output", output, "the recipe to write", true)
      .value("memory", memory, "plan for so many GB instead of what is free on this machine")
      .flag("force", force, "replace a recipe that is there");
  add_plugin_options(options, plugins);
  options.parse(arguments);
  if (memory && !(*memory > 0))
    throw_bad_input("--memory is no amount", {}, "gigabytes, more than 0", "--memory");
  if (!force && std::filesystem::exists(output)) {
    throw_bad_input("'" + output + "' is there already", {}, "a new file", "--output",
                    "choose another name, or give --force");
  }
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  EngineRequest request = request_for(catalog, model);
  Table& table = request.options.as_table();
  table.set("model-name", model);
  table.set("data", data);
  table.set("output", output);
  if (memory) table.set("memory", *memory);
  const auto answer = std::make_shared<Value>();
  request.answer = answer;
  run_engine(std::move(request), catalog);
  const std::string& toml = answer->find("toml")->as_string();
  // What was drafted is a recipe, or it is not written.
  config::resolve_recipe(config::parse_recipe(toml, output), catalog);
  write_file_atomically(output, toml);
  for (const Value& choice : answer->find("choices")->as_array())
    std::printf("- %s\n", wrap(choice.as_string(), 98, 2).c_str());
  std::printf("\n%s is written; train with it:\n  espalier train %s\n", output.c_str(),
              output.c_str());
  return 0;
}

}  // namespace espalier::app

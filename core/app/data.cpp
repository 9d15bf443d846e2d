#include <unistd.h>

#include <cstdio>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/terminal.h"
#include "config/recipe.h"
#include "espalier/base/error.h"

namespace espalier::app {
namespace {

constexpr const char* kText =
    "Shows the data of a recipe as the model will get it: the first rows after template, mask and "
    "packing,\n"
    "with what is learnt in colour, then lengths, what is cut, how full batches are, and what "
    "looks "
    "like a\n"
    "mistake. Nothing is trained.";

int run_inspect(const std::vector<std::string>& arguments) {
  std::string recipe_path;
  std::string section = "dataset";
  std::string page;
  std::int64_t samples = 2;
  bool json = false;
  std::vector<std::string> overrides;
  plugin::CatalogOptions plugin_options;
  Options options("data inspect RECIPE [--samples N] [--html FILE] [--section.key=value ...]",
                  kText);
  options.positional("RECIPE", recipe_path, "the recipe, a TOML file")
      .value("samples", samples, "rows to show")
      .value("section", section, "dataset, validation_dataset or validation_dataset_NAME")
      .value("html", page, "write the same as one HTML page too")
      .flag("json", json, "print JSON")
      .overrides(overrides, "set a key of the recipe", {"seed", "device", "output_dir"});
  add_plugin_options(options, plugin_options);
  options.parse(arguments);
  if (samples < 0)
    throw_bad_input("--samples is negative", std::to_string(samples), "0 or more", "--samples");

  const plugin::Catalog catalog = plugin::Catalog::scan(plugin_options);
  catalog.require_named();
  const config::ResolvedRecipe recipe =
      config::resolve_recipe(config::load_recipe(recipe_path, overrides), catalog);
  EngineRequest request;
  request.command = "data inspect";
  Table table;
  table.set("recipe", recipe.tree);
  table.set("samples", samples);
  table.set("section", section);
  table.set("html", page);
  table.set("json", json);
  table.set("colour", use_colour(STDOUT_FILENO));
  request.options = std::move(table);
  for (const config::ComponentUse& use : recipe.components) {
    const bool is_data = use.path.starts_with("dataset") || use.path.starts_with("validation_");
    if (is_data) request.components[use.path] = {use.component, use.config};
  }
  add_model(request, catalog, recipe.model.path, provider_choice(recipe.model));
  return run_engine(std::move(request), catalog);
}

}  // namespace

int run_data(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == "inspect")
    return run_inspect({arguments.begin() + 1, arguments.end()});
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    std::puts(
        "Usage: espalier data inspect RECIPE [OPTIONS]\n\n"
        "espalier data inspect --help explains it.");
    return 0;
  }
  throw_bad_input("data needs to be told what to do", arguments.empty() ? "" : arguments[0],
                  "data inspect RECIPE", "the command line", "see espalier data inspect --help");
}

}  // namespace espalier::app

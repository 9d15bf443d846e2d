#include <filesystem>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "config/recipe.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kText =
    "Makes a Hugging Face folder of a checkpoint, whatever number of processes wrote it: the "
    "model, "
    "or "
    "the adapter of a run with [peft]. CHECKPOINT is a folder such as "
    "RUN/checkpoints/step-00000050, "
    "or "
    "RUN for its newest.";

/// The checkpoint folder that was meant.
fs::path find_checkpoint(const std::string& given) {
  fs::path folder = fs::absolute(given).lexically_normal();
  const fs::path pointer = folder / "checkpoints" / "LATEST";
  if (fs::exists(folder / "state.json")) return folder;
  if (!fs::exists(pointer)) {
    throw_bad_input("there is no checkpoint in '" + given + "'", {},
                    "a folder with state.json, or a run folder with checkpoints", given,
                    "a run writes them to OUTPUT_DIR/checkpoints");
  }
  std::string name = read_file(pointer.string());
  name.erase(name.find_last_not_of('\n') + 1);
  return folder / "checkpoints" / name;
}

}  // namespace

int run_export(const std::vector<std::string>& arguments) {
  std::string checkpoint;
  std::string output;
  std::string recipe_path;
  bool ema = false;
  plugin::CatalogOptions plugin_options;
  Options options("export CHECKPOINT --output DIR", kText);
  options.positional("CHECKPOINT", checkpoint, "a checkpoint, or a run folder")
      .value("output", output, "the folder to write", /*required=*/true)
      .value("recipe", recipe_path,
             "recipe of the run; default: recipe.resolved.toml of the run folder");
  options.flag("ema", ema, "the average of the weights that [ema] of the recipe keeps");
  add_plugin_options(options, plugin_options);
  options.parse(arguments);

  const fs::path folder = find_checkpoint(checkpoint);
  if (recipe_path.empty())
    recipe_path = (folder.parent_path().parent_path() / "recipe.resolved.toml").string();
  const plugin::Catalog catalog = plugin::Catalog::scan(plugin_options);
  catalog.require_named();
  const config::ResolvedRecipe recipe =
      config::resolve_recipe(config::load_recipe(recipe_path, {}), catalog);
  EngineRequest request;
  request.command = "export";
  Table table;
  table.set("recipe", recipe.tree);
  table.set("checkpoint", folder.string());
  table.set("output", output);
  table.set("ema", ema);
  request.options = std::move(table);
  for (const config::ComponentUse& use : recipe.components)
    if (use.path == "peft") request.components[use.path] = {use.component, use.config};
  add_model(request, catalog, recipe.model.path, provider_choice(recipe.model));
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

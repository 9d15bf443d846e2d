#include <cstdio>
#include <filesystem>
#include <optional>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/run_folder.h"
#include "config/recipe.h"
#include "config/toml.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "plugin/dependencies.h"
#include "plugin/lock_file.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kText =
    "Trains as the recipe says, goes on from the newest checkpoint of its run folder, and exports "
    "the\n"
    "model in Hugging Face format to OUTPUT_DIR/final. Any key of the recipe can be set on the "
    "command\n"
    "line: --optimizer.lr=2e-4. SIGINT or SIGTERM saves a checkpoint at the next step and exits "
    "with 75.";

/// recipe.resolved.toml and plugins.lock: what this run is made of.
void write_run_records(const fs::path& folder, const config::ResolvedRecipe& recipe,
                       const EngineRequest& request, const plugin::Catalog& catalog) {
  write_file_atomically((folder / "recipe.resolved.toml").string(), config::dump_toml(recipe.tree));
  std::vector<std::shared_ptr<const plugin::Plugin>> plugins;
  for (const auto& [section, chosen] : request.components)
    plugins.push_back(chosen.component.plugin);
  plugin::write_lock_file((folder / "plugins.lock").string(), plugin::load_order(catalog, plugins));
}

}  // namespace

int run_train(const std::vector<std::string>& arguments) {
  std::string recipe_path;
  std::string resume = "auto";
  std::vector<std::string> overrides;
  bool dry_run = false;
  bool quiet = false;
  bool json = false;
  plugin::CatalogOptions plugin_options;
  Options options(
      "train RECIPE [--section.key=value ...] [--resume auto|never|DIR] [--dry-run] [--quiet]",
      kText);
  options.positional("RECIPE", recipe_path, "the recipe, a TOML file")
      .value("resume", resume,
             "auto: from the newest checkpoint; never: from the start, and checkpoints that are "
             "there go; DIR: from that checkpoint")
      .flag("dry-run", dry_run,
            "check everything, print recipe, dtype and memory plan, write nothing")
      .flag("quiet", quiet, "print errors only")
      .flag("json", json, "print the plan as JSON")
      .overrides(overrides, "set a key of the recipe", {"seed", "device", "output_dir"});
  add_plugin_options(options, plugin_options);
  options.parse(arguments);

  const plugin::Catalog catalog = plugin::Catalog::scan(plugin_options);
  catalog.require_named();
  const config::ResolvedRecipe recipe =
      config::resolve_recipe(config::load_recipe(recipe_path, overrides), catalog);
  for (const std::string& warning : recipe.warnings)
    std::fprintf(stderr, "warning: %s\n", warning.c_str());

  EngineRequest request;
  request.command = "train";
  Table table;
  table.set("recipe", recipe.tree);
  table.set("resume", resume);
  table.set("dry-run", dry_run);
  table.set("quiet", quiet);
  table.set("json", json);
  request.options = std::move(table);
  for (const config::ComponentUse& use : recipe.components)
    request.components[use.path] = {use.component, use.config};
  add_model(request, catalog, recipe.model.path);
  add_teacher(request, catalog, recipe.tree.find_path("teacher_model.path")->as_string());
  if (dry_run && !quiet && !json) std::printf("%s\n", config::dump_toml(recipe.tree).c_str());
  std::optional<RunFolder> folder;
  if (!dry_run) {
    folder.emplace(recipe.run.output_dir);
    write_run_records(folder->path(), recipe, request, catalog);
  }
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

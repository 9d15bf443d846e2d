#include <cstdio>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "config/recipe.h"
#include "espalier/base/error.h"

namespace espalier::app {
namespace {

constexpr const char* kText =
    "Says what a rank of a run on several processes would hold and send, without the others: one "
    "process "
    "computes two steps as rank 0 of a world of that size, with collectives that only count. "
    "Nothing is "
    "written but the picture that --plot asks for.";

}  // namespace

int run_estimate(const std::vector<std::string>& arguments) {
  constexpr std::int64_t kMost = 1 << 20;
  std::string recipe_path;
  std::int64_t world = 1;
  double bandwidth = 10;
  bool json = false;
  std::string plot;
  std::vector<std::string> overrides;
  plugin::CatalogOptions plugin_options;
  Options options("estimate RECIPE --world N [--section.key=value ...]", kText);
  options.positional("RECIPE", recipe_path, "the recipe, a TOML file")
      .value("world", world, "number of processes")
      .value("bandwidth", bandwidth, "what a rank can send, in GB/s")
      .flag("json", json, "print JSON, in bytes and seconds")
      .value("plot", plot, "an SVG file to write: who holds what, and when")
      .overrides(overrides, "set a key of the recipe", {"seed", "device", "output_dir"});
  add_plugin_options(options, plugin_options);
  options.parse(arguments);
  if (world < 1 || world > kMost)
    throw_bad_input("there can't be so many processes", std::to_string(world), "1 to 1048576",
                    "--world");
  if (!(bandwidth > 0))
    throw_bad_input("nothing could be sent", std::to_string(bandwidth), "more than 0",
                    "--bandwidth");

  const plugin::Catalog catalog = plugin::Catalog::scan(plugin_options);
  catalog.require_named();
  const config::ResolvedRecipe recipe =
      config::resolve_recipe(config::load_recipe(recipe_path, overrides), catalog);
  EngineRequest request;
  request.command = "estimate";
  Table table;
  table.set("recipe", recipe.tree);
  table.set("world", world);
  table.set("bandwidth", bandwidth);
  table.set("json", json);
  table.set("plot", plot);
  request.options = std::move(table);
  add_recipe(request, catalog, recipe);
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

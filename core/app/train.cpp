#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/run_folder.h"
#include "config/recipe.h"
#include "config/toml.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "launch/process_group.h"
#include "launch/rank_environment.h"
#include "plugin/dependencies.h"
#include "plugin/lock_file.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kText =
    "Trains as the recipe says, goes on from the newest checkpoint of its run folder, and exports "
    "the "
    "model in Hugging Face format to OUTPUT_DIR/final. Any key of the recipe can be set on the "
    "command "
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

/// The options that start several processes, as given on the command line.
struct ProcessOptions {
  std::optional<std::int64_t> nproc_per_node;
  std::int64_t nnodes = 1;
  std::int64_t node_rank = 0;
  std::string master;

  void declare(Options& options) {
    options
        .value("nproc-per-node", nproc_per_node,
               "start so many processes on this host, which train together")
        .value("nnodes", nnodes, "hosts of the run; each is started with its --node-rank")
        .value("node-rank", node_rank, "which of the hosts this is, from 0")
        .value("master", master, "HOST:PORT of the host with --node-rank 0; for several hosts");
  }

  launch::LaunchOptions launch_options(const std::vector<std::string>& arguments) const;
};

bool takes_value(const std::string& word) {
  return word == "--nproc-per-node" || word == "--nnodes" || word == "--node-rank" ||
         word == "--master";
}

launch::LaunchOptions ProcessOptions::launch_options(
    const std::vector<std::string>& arguments) const {
  constexpr std::int64_t kMost = 4096;
  ProblemList problems;
  const auto require = [&](bool fine, const char* what, const std::string& found,
                           const char* expected, const char* where) {
    if (!fine) problems.add({ErrorCode::kBadInput, what, found, expected, where, {}});
  };
  require(*nproc_per_node >= 1 && *nproc_per_node <= kMost, "so many processes can't be started",
          std::to_string(*nproc_per_node), "1 to 4096", "--nproc-per-node");
  require(nnodes >= 1 && nnodes <= kMost, "there can't be so many hosts", std::to_string(nnodes),
          "1 to 4096", "--nnodes");
  require(node_rank >= 0 && node_rank < nnodes, "there is no such host", std::to_string(node_rank),
          "less than --nnodes", "--node-rank");
  launch::LaunchOptions launch;
  launch.processes = static_cast<int>(*nproc_per_node);
  launch.nodes = static_cast<int>(nnodes);
  launch.node_rank = static_cast<int>(node_rank);
  if (nnodes > 1) {
    const std::size_t colon = master.rfind(':');
    const std::string port = colon == std::string::npos ? "" : master.substr(colon + 1);
    const bool digits = !port.empty() && port.size() <= 5 &&
                        port.find_first_not_of("0123456789") == std::string::npos;
    require(digits && colon > 0, "several hosts need to know where the first is", master,
            "HOST:PORT", "--master");
    if (digits) {
      launch.master_address = master.substr(0, colon);
      launch.master_port = std::stoi(port);
    }
  }
  problems.throw_if_any();
  launch.command = {fs::read_symlink("/proc/self/exe").string(), "train"};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i].substr(0, arguments[i].find('='));
    if (!takes_value(name))
      launch.command.push_back(arguments[i]);
    else if (name == arguments[i])
      ++i;
  }
  return launch;
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
  ProcessOptions processes;
  Options options(
      "train RECIPE [--section.key=value ...] [--nproc-per-node N] [--resume auto|never|DIR] "
      "[--dry-run] [--quiet]",
      kText);
  processes.declare(options);
  options
      .positional("RECIPE", recipe_path,
                  "the recipe, a TOML file, or a YAML file of NeMo Automodel")
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
  // The recipe was checked first, so that its mistakes are said once and not by every process.
  if (processes.nproc_per_node) return launch::run_processes(processes.launch_options(arguments));
  const bool first_rank = launch::read_rank_environment().rank == 0;
  for (const std::string& warning : recipe.warnings)
    if (first_rank) std::fprintf(stderr, "warning: %s\n", warning.c_str());

  EngineRequest request;
  request.command = "train";
  Table table;
  table.set("recipe", recipe.tree);
  table.set("resume", resume);
  table.set("dry-run", dry_run);
  table.set("quiet", quiet);
  table.set("json", json);
  request.options = std::move(table);
  add_recipe(request, catalog, recipe);
  if (dry_run && !quiet && !json && first_rank)
    std::printf("%s\n", config::dump_toml(recipe.tree).c_str());
  std::optional<RunFolder> folder;
  if (!dry_run && first_rank) {
    folder.emplace(recipe.run.output_dir);
    write_run_records(folder->path(), recipe, request, catalog);
  }
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

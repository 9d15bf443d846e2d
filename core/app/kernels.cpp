#include <algorithm>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/plugins.h"
#include "espalier/base/error.h"

namespace espalier::app {
namespace {

std::vector<plugin::ComponentRef> chosen_packs(const plugin::Catalog& catalog,
                                               const std::string& pack) {
  if (!pack.empty()) return {catalog.component("KernelPack", pack, "PACK")};
  std::vector<plugin::ComponentRef> packs = catalog.components("KernelPack");
  if (packs.empty()) {
    throw_bad_input("no kernel pack was found", {}, "a plugin with a KernelPack", "the plugin path",
                    "give a folder with --plugin-path");
  }
  return packs;
}

}  // namespace

int run_kernels(const std::vector<std::string>& arguments) {
  std::string action;
  std::string pack;
  std::string op;
  std::string dtype = "float32";
  std::int64_t rows = 512;
  std::int64_t columns = 1536;
  bool json = false;
  plugin::CatalogOptions catalog_options;
  Options options(
      "kernels list | check [PACK] | bench [PACK]",
      "Shows the kernel packs, holds them against the reference of each op, and times them. Packs "
      "are used without being asked for; [kernels] in a recipe names one, type = \"reference\" "
      "none.");
  options
      .positional("ACTION", action, {"list", "check", "bench"},
                  "list: packs, what they implement, whether they run here. check: numbers of "
                  "forward and backward against the reference. bench: time of each op, beside the "
                  "reference and a plain copy of the same bytes")
      .positional("PACK", pack, "one pack, by its component's name", false)
      .value("op", op, "bench: this op alone")
      .value("rows", rows, "bench: tokens")
      .value("columns", columns, "bench: width of a token")
      .value("dtype", dtype, "bench: float32 or bfloat16")
      .flag("json", json, "print one JSON document");
  add_plugin_options(options, catalog_options);
  options.parse(arguments);
  ProblemList problems;
  const auto require_positive = [&](std::int64_t value, const char* where) {
    if (value < 1)
      problems.add({ErrorCode::kBadInput,
                    "there must be something to compute",
                    std::to_string(value),
                    "at least 1",
                    where,
                    {}});
  };
  require_positive(rows, "--rows");
  require_positive(columns, "--columns");
  problems.throw_if_any();

  const plugin::Catalog catalog = plugin::Catalog::scan(catalog_options);
  catalog.require_named();
  const std::vector<plugin::ComponentRef> packs = chosen_packs(catalog, pack);
  if (action == "check") {
    int worst = 0;
    for (const plugin::ComponentRef& one : packs) {
      std::vector<std::string> words = {one.plugin->path, "--only", "kernel_pack"};
      if (json) words.emplace_back("--json");
      worst = std::max(worst, validate_plugin(words));
    }
    return worst;
  }
  EngineRequest request;
  request.command = "kernels";
  Table table;
  table.set("action", action);
  table.set("op", op);
  table.set("rows", rows);
  table.set("columns", columns);
  table.set("dtype", dtype);
  table.set("json", json);
  request.options = std::move(table);
  for (const plugin::ComponentRef& one : packs)
    request.components[kKernelsSection + ("." + one.qualified_name())] = {one, Value(Table())};
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

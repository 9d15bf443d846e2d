#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "config/model_path.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors.h"
#include "espalier/base/suggest.h"
#include "plugin/adapter_provider.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUsage =
    "adapter merge | unmerge --model DIR --adapter DIR --output DIR [--dtype TYPE]\n"
    "       espalier adapter extract --base DIR --model DIR --rank N --output DIR\n"
    "       espalier adapter inspect --adapter DIR";
constexpr const char* kText =
    "Works on adapters in PEFT's format.\n"
    "  merge    puts an adapter into the weights of its base: a plain model folder\n"
    "  unmerge  takes it out again\n"
    "  extract  finds the low-rank adapter nearest to the difference of two checkpoints\n"
    "  inspect  says what is in an adapter's folder";

struct AdapterFlags {
  std::string action;
  std::string model;
  std::string adapter;
  std::string base;
  std::string output;
  std::string dtype;
  std::optional<std::int64_t> rank;
  std::vector<std::string> target_modules;
  bool json = false;
};

void require(const std::string& value, const AdapterFlags& flags, const char* option) {
  if (value.empty())
    throw_bad_input("espalier adapter " + flags.action + " needs " + option, {}, option,
                    "the command line", "espalier adapter --help shows the forms");
}

/// Reads names and headers only.
int inspect(const AdapterFlags& flags, const plugin::Catalog& catalog) {
  const plugin::ComponentRef reader = plugin::adapter_for(catalog, flags.adapter);
  const Value config = read_json_file((fs::path(flags.adapter) / "adapter_config.json").string(),
                                      {.allow_duplicate_keys = true});
  const SafetensorsFile file((fs::path(flags.adapter) / "adapter_model.safetensors").string());
  std::int64_t parameters = 0;
  for (const TensorInfo& tensor : file.tensors()) parameters += tensor.element_count();
  const auto count = static_cast<std::int64_t>(file.tensors().size());
  Table result;
  result.set("read_by", reader.qualified_name());
  result.set("tensors", count);
  result.set("parameters", parameters);
  result.set("config", config);
  if (flags.json) {
    std::puts(dump_json(Value(std::move(result)), 1).c_str());
    return 0;
  }
  std::printf("read by     %s\ntensors     %lld\nparameters  %lld\n",
              reader.qualified_name().c_str(), static_cast<long long>(count),
              static_cast<long long>(parameters));
  for (const auto& [key, value] : config.as_table()) {
    if (!value.is_null()) std::printf("%-24s %s\n", key.c_str(), dump_json(value).c_str());
  }
  return 0;
}

/// The adapter that `extract` fills: the default one of a recipe's section, of the given rank.
ChosenComponent new_adapter(const AdapterFlags& flags, const plugin::Catalog& catalog) {
  const auto component = catalog.default_for("Adapter", "peft");
  if (!component) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "no plugin makes adapters",
                        {},
                        {},
                        {},
                        "--plugin-path adds a folder of plugins"});
  }
  Table config;
  config.set("r", *flags.rank);
  config.set("lora_alpha", *flags.rank);
  if (!flags.target_modules.empty())
    config.set("target_modules", Array(flags.target_modules.begin(), flags.target_modules.end()));
  return {*component, Value(std::move(config))};
}

int compute(const AdapterFlags& flags, const plugin::Catalog& catalog) {
  require(flags.model, flags, "--model DIR");
  require(flags.output, flags, "--output DIR");
  EngineRequest request;
  request.command = "adapter";
  Table table;
  table.set("action", flags.action);
  table.set("output", flags.output);
  if (!flags.dtype.empty()) table.set("dtype", flags.dtype);
  const bool extracts = flags.action == "extract";
  if (extracts) {
    require(flags.base, flags, "--base DIR");
    if (!flags.rank) require("", flags, "--rank N");
  }
  request.options = std::move(table);
  add_model(request, catalog, extracts ? flags.base : flags.model);
  if (extracts) {
    add_further_model(request, catalog, "tuned", flags.model);
    request.components["peft"] = new_adapter(flags, catalog);
  } else {
    require(flags.adapter, flags, "--adapter DIR");
    add_adapter(request, catalog, flags.adapter);
  }
  return run_engine(std::move(request), catalog);
}

}  // namespace

int run_adapter(const std::vector<std::string>& arguments) {
  AdapterFlags flags;
  plugin::CatalogOptions plugins;
  Options options(kUsage, kText);
  options
      .positional("ACTION", flags.action, {"merge", "unmerge", "extract", "inspect"}, "what to do")
      .value("model", flags.model, "model folder or hub id; for extract the trained one")
      .value("adapter", flags.adapter, "adapter folder")
      .value("base", flags.base, "extract: the model before training")
      .value("output", flags.output, "folder to write; what is there is replaced")
      .value("dtype", flags.dtype, "merge, unmerge: dtype of the weights (default: as stored)")
      .value("rank", flags.rank, "extract: rank of the adapter")
      .separated("target-modules", flags.target_modules, ',', "NAME,...",
                 "extract: modules to look at (default: all linears)")
      .flag("json", flags.json, "inspect: print JSON");
  add_plugin_options(options, plugins);
  options.parse(arguments);
  if (flags.rank && *flags.rank < 1)
    throw_bad_input("--rank is out of range", std::to_string(*flags.rank), "1 or more", "--rank");
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  if (flags.action != "inspect") return compute(flags, catalog);
  require(flags.adapter, flags, "--adapter DIR");
  return inspect(flags, catalog);
}

}  // namespace espalier::app

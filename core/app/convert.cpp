#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app/options.h"
#include "app/plugin_options.h"
#include "config/model_path.h"
#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/served_files.h"
#include "formats/folder_conversion.h"
#include "plugin/dependencies.h"
#include "plugin/file_formats.h"

namespace espalier::app {
namespace {

constexpr const char* kSafetensors = "safetensors";

std::optional<DType> parse_dtype(const std::string& name) {
  if (name == "keep") return std::nullopt;
  if (name == "f32" || name == "fp32") return DType::kF32;
  if (name == "f16" || name == "fp16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  const std::optional<DType> dtype = dtype_from_config_name(name);
  if (dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16) return dtype;
  throw_bad_input("weights can't be converted to this type", name,
                  "float32, bfloat16, float16 or keep", "--dtype");
}

/// "2GB", "500MB", "5GiB": decimal units as transformers has them, binary ones with an i.
std::uint64_t parse_size(const std::string& text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string unit = text.substr(digits);
  std::uint64_t scale = 0;
  if (unit == "GB") scale = 1'000'000'000;
  if (unit == "MB") scale = 1'000'000;
  if (unit == "KB") scale = 1'000;
  if (unit == "GiB") scale = std::uint64_t{1} << 30;
  if (unit == "MiB") scale = std::uint64_t{1} << 20;
  if (unit == "KiB") scale = std::uint64_t{1} << 10;
  if (scale == 0 || digits == 0 || digits > 8 || std::stoull(text) == 0)
    throw_bad_input("this is no size", text, "a number and KB, MB, GB, KiB, MiB or GiB: 2GB",
                    "--max-shard-size");
  return std::stoull(text) * scale;
}

/// Where the weights are read and written by plugins.
formats::ForeignWeights foreign_weights(const std::string& folder, const std::string& from,
                                        const std::string& to,
                                        const plugin::CatalogOptions& plugins,
                                        plugin::PluginHost& host) {
  formats::ForeignWeights foreign;
  const bool reads = !from.empty() || !CheckpointReader::has_weights(folder);
  const bool writes = !to.empty() && to != kSafetensors;
  if (!reads && !writes) return foreign;
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  const auto make = [&](const plugin::ComponentRef& format) {
    host.load(plugin::load_order(catalog, {format.plugin}));
    return host.create<CheckpointFormat>(format, Value(Table()));
  };
  if (const auto format =
          reads ? plugin::checkpoint_format_for(catalog, folder, from) : std::nullopt) {
    foreign.reader = make(*format);
    foreign.files = served_files(format->component->serves, folder);
  }
  if (writes) {
    const plugin::ComponentRef format =
        catalog.component(CheckpointFormat::kInterface.name, to, "--format");
    const Value* name = format.component->properties.find("writes");
    if (name == nullptr || !name->is_string())
      throw Error(Problem{.code = ErrorCode::kUnsupported,
                          .what = "this format of weights is read and not written",
                          .found = format.qualified_name(),
                          .where = "--format"});
    foreign.writer = make(format);
    foreign.file_name = name->as_string();
  }
  return foreign;
}

}  // namespace

int run_convert(const std::vector<std::string>& arguments) {
  std::string folder;
  std::string output;
  std::string dtype = "keep";
  std::string shard_size = "5GB";
  plugin::PluginHost host;  // outlives the formats in the options
  formats::FolderConversionOptions options;
  bool json = false;
  std::string from;
  std::string to;
  plugin::CatalogOptions plugins;
  Options declared(
      "convert DIR --output DIR [--dtype TYPE] [--max-shard-size SIZE] [--format NAME]",
      "Writes a model folder again as safetensors: with weights of another type, in shards of "
      "another size, or from .bin files. Everything else in the folder stays. Memory does not "
      "grow with the model. Plugins add formats of files to read and to write.");
  declared.positional("DIR", folder, "the model folder, or a hub id that is in the local cache")
      .value("output", output, "the folder to write", /*required=*/true)
      .value("dtype", dtype, "float32, bfloat16, float16 (or f32, bf16, f16); keep: as they are")
      .value("max-shard-size", shard_size, "a file of weights is closed before it passes this")
      .value("format", to,
             "of the weights written: safetensors (the default), or a CheckpointFormat of a plugin")
      .value("from", from,
             "the component that reads the weights, a CheckpointFormat (default: by the files)")
      .flag("overwrite", options.overwrite, "replace what is in the output folder")
      .flag("json", json, "print the report as JSON");
  add_plugin_options(declared, plugins);
  declared.parse(arguments);
  options.dtype = parse_dtype(dtype);
  options.max_shard_bytes = parse_size(shard_size);
  const std::string source = config::resolve_model_path(folder);
  options.foreign = foreign_weights(source, from, to, plugins, host);
  const formats::FolderConversionReport report = formats::convert_folder(source, output, options);
  if (json) {
    Table table;
    table.set("folder", output);
    table.set("tensors", static_cast<std::int64_t>(report.tensors));
    table.set("bytes", static_cast<std::int64_t>(report.bytes));
    table.set("tied", Array(report.tied.begin(), report.tied.end()));
    table.set("files", Array(report.files.begin(), report.files.end()));
    std::puts(dump_json(table).c_str());
    return 0;
  }
  std::printf("%zu tensors, %.1f MB in %s\n", report.tensors,
              static_cast<double>(report.bytes) / 1e6, output.c_str());
  for (const std::string& name : report.tied)
    std::printf("  left out, since the model ties it: %s\n", name.c_str());
  return 0;
}

}  // namespace espalier::app

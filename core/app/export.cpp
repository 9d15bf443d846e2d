#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <optional>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "config/model_path.h"
#include "config/recipe.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "formats/gguf_export.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kText =
    "Makes a Hugging Face folder of a checkpoint, whatever number of processes wrote it: the "
    "model, or the adapter of a run with [peft]. CHECKPOINT is a folder such as "
    "RUN/checkpoints/step-00000050, or RUN for its newest. With --format gguf the model of a "
    "checkpoint, or that of a model folder, becomes one file for llama.cpp.";

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

GgmlType parse_type(const std::string& name) {
  if (name == "f32" || name == "float32") return GgmlType::kF32;
  if (name == "f16" || name == "float16") return GgmlType::kF16;
  if (name == "bf16" || name == "bfloat16") return GgmlType::kBF16;
  if (name == "q8_0") return GgmlType::kQ8Type0;
  throw_bad_input("GGUF files are not written in this type", name, "f32, f16, bf16 or q8_0",
                  "--dtype");
}

struct ExportOptions {
  std::string source;
  std::string output;
  std::string recipe_path;
  std::string format = "hf";
  std::string dtype;
  bool no_tokenizer = false;
  bool ema = false;
  plugin::CatalogOptions plugins;
};

/// The model or adapter of a checkpoint, written to `output` by the engine.
int export_checkpoint(const ExportOptions& options, const std::string& output, bool may_adapt) {
  const fs::path folder = find_checkpoint(options.source);
  const std::string recipe_path =
      options.recipe_path.empty()
          ? (folder.parent_path().parent_path() / "recipe.resolved.toml").string()
          : options.recipe_path;
  const plugin::Catalog catalog = plugin::Catalog::scan(options.plugins);
  catalog.require_named();
  const config::ResolvedRecipe recipe =
      config::resolve_recipe(config::load_recipe(recipe_path, {}), catalog);
  EngineRequest request;
  request.command = "export";
  Table table;
  table.set("recipe", recipe.tree);
  table.set("checkpoint", folder.string());
  table.set("output", output);
  table.set("ema", options.ema);
  request.options = std::move(table);
  for (const config::ComponentUse& use : recipe.components) {
    if (use.path != "peft") continue;
    if (!may_adapt) {
      throw_bad_input("the run trained an adapter, and a GGUF file holds a whole model",
                      use.component.component->name, "a model folder, or a run without [peft]",
                      options.source,
                      "espalier export RUN --output ADAPTER, then espalier adapter merge, then "
                      "export the merged folder");
    }
    request.components[use.path] = {use.component, use.config};
  }
  add_model(request, catalog, recipe.model.path, provider_choice(recipe.model));
  return run_engine(std::move(request), catalog);
}

/// A folder beside the output, for the model of a checkpoint on its way into one file.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& output)
      : path_(output + ".model.tmp." + std::to_string(::getpid())) {}
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int export_as_gguf(const ExportOptions& options) {
  formats::GgufExportOptions gguf;
  gguf.type = parse_type(options.dtype.empty() ? "f16" : options.dtype);
  gguf.with_tokenizer = !options.no_tokenizer;
  if (fs::is_directory(options.output)) {
    throw_bad_input(
        "a GGUF file is to be written where a folder is", options.output, "the path of a file",
        "--output",
        "give a name in it, such as " + (fs::path(options.output) / "model.gguf").string());
  }
  std::string model = options.source;
  std::optional<TemporaryFolder> exported;
  if (fs::exists(fs::path(model) / "state.json") || fs::exists(fs::path(model) / "checkpoints")) {
    gguf.name = fs::absolute(model).lexically_normal().filename().string();
    exported.emplace(options.output);
    if (const int code = export_checkpoint(options, exported->path(), false); code != 0)
      return code;
    model = exported->path();
  } else {
    model = config::resolve_model_path(model);
  }
  const formats::GgufExportReport report = formats::export_gguf(model, options.output, gguf);
  for (const Problem& warning : report.warnings) {
    std::string text = warning.to_string();
    if (text.starts_with("error")) text.replace(0, 5, "warning");
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  std::printf("%s, %lld parameters in %zu tensors in %s\n", report.architecture.c_str(),
              static_cast<long long>(report.parameters), report.tensors, options.output.c_str());
  return 0;
}

}  // namespace

int run_export(const std::vector<std::string>& arguments) {
  ExportOptions chosen;
  Options options("export CHECKPOINT --output DIR | DIR --format gguf --output FILE.gguf", kText);
  options
      .positional("CHECKPOINT", chosen.source,
                  "a checkpoint, or a run folder; for GGUF also a model folder or hub id")
      .value("output", chosen.output, "the folder or file to write", /*required=*/true)
      .value("recipe", chosen.recipe_path,
             "recipe of the run; default: recipe.resolved.toml of the run folder")
      .value("format", chosen.format, "hf: a Hugging Face folder; gguf: a file for llama.cpp")
      .value("dtype", chosen.dtype,
             "of a GGUF file's matrices: f32, f16, bf16 or q8_0; default f16")
      .flag("no-tokenizer", chosen.no_tokenizer, "leave the tokenizer out of a GGUF file")
      .flag("ema", chosen.ema, "the average of the weights that [ema] of the recipe keeps");
  add_plugin_options(options, chosen.plugins);
  options.parse(arguments);
  if (chosen.format == "gguf") return export_as_gguf(chosen);
  if (chosen.format != "hf")
    throw_bad_input("there is no such format", chosen.format, "hf or gguf", "--format");
  if (!chosen.dtype.empty() || chosen.no_tokenizer) {
    throw_bad_input("this option is for --format gguf",
                    chosen.dtype.empty() ? "--no-tokenizer" : "--dtype", {}, "the command line",
                    "espalier convert changes the type of a model folder's weights");
  }
  return export_checkpoint(chosen, chosen.output, true);
}

}  // namespace espalier::app

#include "app/compute.h"

#include <filesystem>

#include "config/model_path.h"
#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/location.h"
#include "plugin/adapter_provider.h"
#include "plugin/dependencies.h"
#include "plugin/file_formats.h"
#include "plugin/library.h"
#include "plugin/model_provider.h"
#include "text/tokenizer_loader.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

std::string engine_path() { return library_folder() + "/libespalier_engine.so"; }

/// Whether the pack is for hardware that is here. One that serves no device is only used by name.
bool is_for_this_machine(const plugin::ComponentRef& pack) {
  const Value* devices = pack.component->serves.find("devices");
  if (devices == nullptr) return false;
  for (const Value& device : devices->as_array()) {
    if (device == Value("cpu") || (device == Value("cuda") && fs::exists("/dev/nvidiactl")))
      return true;
  }
  return false;
}

/// Kernel packs are used without being asked for, unless [kernels] names one: then that one alone.
void add_kernel_packs(EngineRequest& request, const plugin::Catalog& catalog) {
  if (request.components.contains(kKernelsSection)) return;
  for (const plugin::ComponentRef& pack : catalog.components("KernelPack")) {
    if (is_for_this_machine(pack))
      request.components[kKernelsSection + ("." + pack.qualified_name())] = {pack, Value(Table())};
  }
}

/// Plugins for files of the folder that the host has no reader for, or that the user named.
void add_formats(EngineRequest& request, const plugin::Catalog& catalog, const std::string& folder,
                 const std::string& section, const plugin::ProviderChoice& choice) {
  if (section == "model" && (!choice.tokenizer.empty() || !text::has_tokenizer(folder))) {
    if (const auto format = plugin::tokenizer_format_for(catalog, folder, choice.tokenizer))
      request.components[section + kTokenizerFormat] = {*format, Value(Table())};
  }
  if (!choice.checkpoint_format.empty() || !CheckpointReader::has_weights(folder)) {
    if (const auto format =
            plugin::checkpoint_format_for(catalog, folder, choice.checkpoint_format))
      request.components[section + kCheckpointFormat] = {*format, Value(Table())};
  }
}

}  // namespace

void add_model(EngineRequest& request, const plugin::Catalog& catalog, const std::string& model,
               const plugin::ProviderChoice& choice) {
  const std::string folder = config::resolve_model_path(model);
  request.options.as_table().set("model", folder);
  request.components["model"] = {plugin::model_provider_for(catalog, folder, choice),
                                 Value(Table())};
  add_formats(request, catalog, folder, "model", choice);
  add_kernel_packs(request, catalog);
}

plugin::ProviderChoice provider_choice(const config::ModelConfig& model) {
  Table overrides;
  for (const auto& [key, value] : model.config) overrides.set(key, value);
  return {model.provider, std::move(overrides), model.tokenizer, model.checkpoint_format};
}

void add_device_option(Options& options, std::string& device) {
  options.value("device", device,
                "auto, cpu or cuda (default auto: on the GPU where there is one)");
}

void add_further_model(EngineRequest& request, const plugin::Catalog& catalog,
                       const std::string& name, const std::string& model) {
  if (model.empty()) return;
  const std::string folder = config::resolve_model_path(model);
  const std::string section = name + "_model";
  request.options.as_table().set(name, folder);
  request.components[section] = {plugin::model_provider_for(catalog, folder), Value(Table())};
  add_formats(request, catalog, folder, section, {});
}

void add_recipe(EngineRequest& request, const plugin::Catalog& catalog,
                const config::ResolvedRecipe& recipe) {
  for (const config::ComponentUse& use : recipe.components)
    request.components[use.path] = {use.component, use.config};
  add_model(request, catalog, recipe.model.path, provider_choice(recipe.model));
  add_further_model(request, catalog, "teacher",
                    recipe.tree.find_path("teacher_model.path")->as_string());
}

void add_adapter(EngineRequest& request, const plugin::Catalog& catalog,
                 const std::string& folder) {
  if (folder.empty()) return;
  request.options.as_table().set("adapter", folder);
  request.components["peft"] = {plugin::adapter_for(catalog, folder), Value(Table())};
}

void add_adapters(EngineRequest& request, const plugin::Catalog& catalog,
                  const std::vector<std::string>& given) {
  if (given.size() == 1 &&
      (given[0].find('=') == std::string::npos || fs::is_directory(given[0]))) {
    add_adapter(request, catalog, given[0]);
    return;
  }
  Table folders;
  for (const std::string& word : given) {
    const std::size_t sign = word.find('=');
    if (sign == std::string::npos || sign == 0 || sign + 1 == word.size()) {
      throw_bad_input("several adapters need names", word, "--adapter NAME=DIR, for each",
                      "--adapter");
    }
    const std::string name = word.substr(0, sign);
    const std::string folder = word.substr(sign + 1);
    if (folders.contains(name))
      throw_bad_input("two adapters have one name", name, "a name for each", "--adapter");
    request.components[adapter_section(name)] = {plugin::adapter_for(catalog, folder),
                                                 Value(Table())};
    folders.set(name, folder);
  }
  if (!given.empty()) request.options.as_table().set("adapters", std::move(folders));
}

bool has_engine() { return fs::exists(engine_path()); }

void open_engine() {
  if (has_engine()) plugin::open_library_symbol(engine_path(), kEngineEntryName);
}

int call_engine(const EngineRequest& request) {
  if (!has_engine()) {
    throw Error(
        Problem{ErrorCode::kUnsupported,
                "this build of Espalier has no engine",
                {},
                "libespalier_engine.so",
                engine_path(),
                "build with -DESPALIER_ENGINE=ON, which needs LibTorch (scripts/setup.sh)"});
  }
  const auto entry =
      reinterpret_cast<EngineEntry>(plugin::open_library_symbol(engine_path(), kEngineEntryName));
  return entry(request);
}

int run_engine(EngineRequest request, const plugin::Catalog& catalog) {
  std::vector<std::shared_ptr<const plugin::Plugin>> wanted;
  for (const auto& [section, chosen] : request.components)
    wanted.push_back(chosen.component.plugin);
  request.plugins = plugin::load_order(catalog, wanted);
  return call_engine(request);
}

int run_on_model(EngineRequest request, const plugin::CatalogOptions& plugins,
                 const std::string& model, const std::string& adapter) {
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  add_model(request, catalog, model);
  add_adapter(request, catalog, adapter);
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

#include "app/compute.h"

#include <filesystem>

#include "config/model_path.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "plugin/dependencies.h"
#include "plugin/library.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> architectures_of(const Value& config) {
  std::vector<std::string> names;
  const Value* list = config.find("architectures");
  if (list == nullptr || !list->is_array()) return names;
  for (const Value& name : list->as_array()) {
    if (name.is_string()) names.push_back(name.as_string());
  }
  return names;
}

std::vector<std::string> served_names(const plugin::Catalog& catalog, const char* kind) {
  std::vector<std::string> names;
  for (const plugin::ComponentRef& provider : catalog.components("ModelProvider")) {
    const Value* served = provider.component->serves.find(kind);
    if (served == nullptr) continue;
    for (const Value& name : served->as_array()) names.push_back(name.as_string());
  }
  return names;
}

/// libespalier_engine.so beside this program: ../lib of it, in a build tree and when installed.
std::string engine_path() {
  const fs::path program = fs::read_symlink("/proc/self/exe");
  return (program.parent_path().parent_path() / "lib" / "libespalier_engine.so").string();
}

}  // namespace

ChosenComponent choose_model_provider(const plugin::Catalog& catalog, const std::string& folder) {
  const std::string path = (fs::path(folder) / "config.json").string();
  if (!fs::exists(path)) {
    throw_bad_input("the model folder has no config.json", {}, "config.json", folder,
                    "a Hugging Face model folder holds config.json, model.safetensors and tokenizer.json");
  }
  const Value config = read_json_file(path, {.allow_duplicate_keys = true});
  const std::vector<std::string> architectures = architectures_of(config);
  for (const std::string& name : architectures) {
    const auto providers = catalog.serving("ModelProvider", "architectures", name);
    if (!providers.empty()) return {providers.front(), Value(Table())};
  }
  const Value* model_type = config.find("model_type");
  const std::string kind = model_type != nullptr && model_type->is_string() ? model_type->as_string() : std::string();
  if (architectures.empty() && !kind.empty()) {
    const auto providers = catalog.serving("ModelProvider", "model_types", kind);
    if (!providers.empty()) return {providers.front(), Value(Table())};
  }
  const std::vector<std::string> served = served_names(catalog, "architectures");
  const std::string wanted = architectures.empty() ? kind : architectures.front();
  std::string hint = did_you_mean(wanted, served);
  if (hint.empty()) hint = "'espalier plugins list' shows what is there; --plugin-path adds a folder of plugins";
  throw Error(Problem{ErrorCode::kUnsupported, "no plugin serves this model", wanted.empty() ? "no architectures" : wanted,
                      "one of " + join_names(served), path + ": architectures", hint});
}

void add_model(EngineRequest& request, const plugin::Catalog& catalog, const std::string& model) {
  const std::string folder = config::resolve_model_path(model);
  request.options.as_table().set("model", folder);
  request.components["model"] = choose_model_provider(catalog, folder);
}

int run_engine(EngineRequest request, const plugin::Catalog& catalog) {
  std::vector<std::shared_ptr<const plugin::Plugin>> wanted;
  for (const auto& [section, chosen] : request.components) wanted.push_back(chosen.component.plugin);
  request.plugins = plugin::load_order(catalog, wanted);
  const std::string path = engine_path();
  if (!fs::exists(path)) {
    throw Error(Problem{ErrorCode::kUnsupported, "this build of Espalier has no engine", {}, "libespalier_engine.so", path,
                        "build with -DESPALIER_ENGINE=ON, which needs LibTorch (scripts/setup.sh)"});
  }
  const auto entry = reinterpret_cast<EngineEntry>(plugin::open_library_symbol(path, kEngineEntryName));
  return entry(request);
}

}  // namespace espalier::app

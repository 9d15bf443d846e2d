#include "plugin/model_provider.h"

#include <filesystem>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::plugin {
namespace {

std::vector<std::string> architectures_of(const Value& config) {
  std::vector<std::string> names;
  const Value* list = config.find("architectures");
  if (list == nullptr || !list->is_array()) return names;
  for (const Value& name : list->as_array()) {
    if (name.is_string()) names.push_back(name.as_string());
  }
  return names;
}

std::vector<std::string> served_names(const Catalog& catalog, const char* kind) {
  std::vector<std::string> names;
  for (const ComponentRef& provider : catalog.components("ModelProvider")) {
    const Value* served = provider.component->serves.find(kind);
    if (served == nullptr) continue;
    for (const Value& name : served->as_array()) names.push_back(name.as_string());
  }
  return names;
}

}  // namespace

ComponentRef model_provider_for(const Catalog& catalog, const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  if (!std::filesystem::exists(path)) {
    throw_bad_input(
        "the model folder has no config.json", {}, "config.json", folder,
        "a Hugging Face model folder holds config.json, model.safetensors and tokenizer.json");
  }
  const Value config = read_json_file(path, {.allow_duplicate_keys = true});
  const std::vector<std::string> architectures = architectures_of(config);
  for (const std::string& name : architectures) {
    const auto providers = catalog.serving("ModelProvider", "architectures", name);
    if (!providers.empty()) return providers.front();
  }
  const Value* model_type = config.find("model_type");
  const std::string kind =
      model_type != nullptr && model_type->is_string() ? model_type->as_string() : std::string();
  if (architectures.empty() && !kind.empty()) {
    const auto providers = catalog.serving("ModelProvider", "model_types", kind);
    if (!providers.empty()) return providers.front();
  }
  const std::vector<std::string> served = served_names(catalog, "architectures");
  const std::string wanted = architectures.empty() ? kind : architectures.front();
  std::string hint = did_you_mean(wanted, served);
  if (hint.empty())
    hint = "'espalier plugins list' shows what is there; --plugin-path adds a folder of plugins";
  throw Error(Problem{ErrorCode::kUnsupported, "no plugin serves this model",
                      wanted.empty() ? "no architectures" : wanted, "one of " + join_names(served),
                      path + ": architectures", hint});
}

}  // namespace espalier::plugin

#include "plugin/model_provider.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"
#include "plugin/model_config.h"

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

/// "Llama" of "LlamaForCausalLM" and "LlamaModel".
std::string stem_of(const std::string& architecture) {
  std::size_t end = architecture.size();
  for (const char* suffix : {"For", "Model", "LMHead"})
    end = std::min(end, architecture.find(suffix));
  return architecture.substr(0, end);
}

/// True when `architectures` are of the family that `provider` serves, or none is named.
bool is_of_family(const ComponentRef& provider, const std::vector<std::string>& architectures) {
  const Value* served = provider.component->serves.find("architectures");
  if (architectures.empty() || served == nullptr) return true;
  return std::any_of(architectures.begin(), architectures.end(), [&](const std::string& name) {
    const Array& list = served->as_array();
    return std::any_of(list.begin(), list.end(), [&](const Value& known) {
      return stem_of(known.as_string()) == stem_of(name);
    });
  });
}

std::string text_of(const Value& config, const char* key) {
  const Value* value = config.find(key);
  return value != nullptr && value->is_string() ? value->as_string() : std::string();
}

/// The one that serves `name`, or none. Several are an error: there is no rule of precedence.
std::optional<ComponentRef> only_provider(const Catalog& catalog, const char* kind,
                                          const std::string& name, const std::string& path) {
  const std::vector<ComponentRef> providers = catalog.serving("ModelProvider", kind, name);
  if (providers.size() > 1) {
    std::vector<std::string> names;
    names.reserve(providers.size());
    for (const ComponentRef& provider : providers) names.push_back(provider.qualified_name());
    throw_bad_input("more than one plugin serves '" + name + "'", join_names(names), "one of them",
                    path,
                    "choose in the recipe, as provider = \"" + names.front() +
                        "\" in [model], or take the others out of the plugin folders");
  }
  if (providers.empty()) return std::nullopt;
  return providers.front();
}

[[noreturn]] void refuse(const Catalog& catalog, const Value& config,
                         const std::vector<std::string>& architectures,
                         const std::string& model_type, const std::string& path) {
  const std::vector<std::string> served = served_names(catalog, "architectures");
  std::string hint = architectures.empty() ? std::string() : did_you_mean(architectures[0], served);
  if (hint.empty()) {
    const std::string near = did_you_mean(model_type, served_names(catalog, "model_types"));
    if (!near.empty()) hint = "of the model types, " + near;
  }
  hint += hint.empty() ? "" : " ";
  if (config.find("auto_map") != nullptr)
    hint += "Its folder brings Python code (auto_map), which is never run. ";
  hint += "A plugin of your own can serve it: docs/plugins.md; --plugin-path adds its folder";
  std::string found = join_names(architectures);
  if (!model_type.empty())
    found += (found.empty() ? "" : ", ") + ("model_type '" + model_type + "'");
  throw Error(Problem{ErrorCode::kUnsupported, "no plugin serves this model",
                      found.empty() ? "neither architectures nor model_type" : found,
                      "one of " + join_names(served), path + ": architectures", hint});
}

}  // namespace

ComponentRef model_provider_for(const Catalog& catalog, const std::string& folder,
                                const ProviderChoice& choice) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  const Value config = with_config_overrides(read_model_config(folder), choice.config);
  if (!choice.provider.empty())
    return catalog.component("ModelProvider", choice.provider, "model.provider");
  const std::vector<std::string> architectures = architectures_of(config);
  for (const std::string& name : architectures) {
    if (const auto provider = only_provider(catalog, "architectures", name, path)) return *provider;
  }
  // Saved from another class of a family that is served (a base model, say): the type says what it
  // is, as long as the folder brings no code that computes otherwise.
  const std::string model_type = text_of(config, "model_type");
  if (!model_type.empty() && config.find("auto_map") == nullptr) {
    const auto provider = only_provider(catalog, "model_types", model_type, path);
    if (provider && is_of_family(*provider, architectures)) return *provider;
  }
  refuse(catalog, config, architectures, model_type, path);
}

std::string token_head_of(const ComponentRef& provider) {
  const Value* name = provider.component->properties.find("token_classification_head");
  return name != nullptr && name->is_string() ? name->as_string() : "score";
}

}  // namespace espalier::plugin

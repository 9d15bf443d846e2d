#include "plugin/adapter_provider.h"

#include <filesystem>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::plugin {

ComponentRef adapter_for(const Catalog& catalog, const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "adapter_config.json").string();
  if (!std::filesystem::exists(path)) {
    throw_bad_input("there is no adapter in '" + folder + "'", {},
                    "a folder with adapter_config.json and adapter_model.safetensors", folder,
                    "training with a [peft] section leaves one in the run folder's final/");
  }
  const Value config = read_json_file(path, {.allow_duplicate_keys = true});
  const Value* kind = config.find("peft_type");
  if (kind == nullptr || !kind->is_string())
    throw_bad_input("the adapter's config has no 'peft_type'", {}, "\"peft_type\": \"...\"", path);
  const auto readers = catalog.serving("Adapter", "peft_types", kind->as_string());
  if (!readers.empty()) return readers.front();
  std::vector<std::string> served;
  for (const ComponentRef& adapter : catalog.components("Adapter")) {
    const Value* names = adapter.component->serves.find("peft_types");
    if (names == nullptr) continue;
    for (const Value& name : names->as_array()) served.push_back(name.as_string());
  }
  throw Error(Problem{ErrorCode::kUnsupported, "no plugin reads this kind of adapter",
                      kind->as_string(), "one of " + join_names(served), path + ": peft_type",
                      "--plugin-path adds a folder of plugins"});
}

}  // namespace espalier::plugin

#include "plugin/capabilities.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier::plugin {

std::vector<std::string> capabilities_of(const ComponentRef& provider) {
  std::vector<std::string> names;
  const Value* claims = provider.component->properties.find("capabilities");
  if (claims == nullptr || !claims->is_array()) return {"causal_lm"};
  for (const Value& name : claims->as_array()) {
    if (name.is_string()) names.push_back(name.as_string());
  }
  return names;
}

void require_capability(const ComponentRef& provider, const std::string& name,
                        const std::string& where) {
  const std::vector<std::string> names = capabilities_of(provider);
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  throw Error(Problem{ErrorCode::kUnsupported,
                      "the model's plugin does not claim to support '" + name + "'",
                      provider.qualified_name() + " supports " + join_names(names), name, where,
                      "espalier models capabilities shows which families do"});
}

}  // namespace espalier::plugin

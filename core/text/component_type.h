#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/json_node.h"

namespace espalier::text {

/// One kind of component ("NFC", "Split", ...) of an interface and how it is made from its section.
template <class Interface>
struct ComponentType {
  std::string_view name;
  std::unique_ptr<Interface> (*make)(const JsonNode& section);
};

/// Makes the component that `section` names in its `type`.
template <class Interface>
std::unique_ptr<Interface> make_component(std::span<const ComponentType<Interface>> types,
                                          std::string_view kind, const JsonNode& section) {
  const JsonNode type = section.at("type");
  const std::string name = type.as_string();
  std::string known;
  for (const auto& candidate : types) {
    if (candidate.name == name) return candidate.make(section);
    known += (known.empty() ? "" : ", ") + std::string(candidate.name);
  }
  type.fail("unknown type of " + std::string(kind), name, known);
}

}  // namespace espalier::text

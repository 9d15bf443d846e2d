#pragma once

#include <span>
#include <string_view>

#include "espalier/base/schema.h"

namespace espalier::config {

/// One section that a recipe may have: either the host's own, with a schema, or one that names a
/// component of an interface by its key `type` and holds that component's configuration.
struct Section {
  std::string_view name;  ///< empty: the keys outside all sections
  SchemaSpec (*schema)() = nullptr;
  std::string_view interface;  ///< for component sections
  bool required = false;       ///< a component has to be named here, or be the default
  /// Without `type` it is the component whose plugin declares default_for = the section's name.
  bool has_default = false;
  std::string_view type_like;  ///< without `type` it is of the type of this other section
  bool named = false;          ///< further ones may be called NAME_something
};

/// The section that a key of a recipe is, itself or by a name of its own; nullptr for none.
const Section* find_section(std::string_view key);

/// In the order of recipe.resolved.toml.
std::span<const Section> sections();

}  // namespace espalier::config

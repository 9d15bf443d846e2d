#pragma once

#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier::config {

/// JSON Schema (draft 2020-12) of recipes, with the components of `catalog`: what editors with a
/// TOML language server check and complete by.
Value recipe_json_schema(const plugin::Catalog& catalog);

/// "section.key" of everything that a recipe may hold, those of all components included, and keys
/// outside of sections.
std::vector<std::string> recipe_keys(const plugin::Catalog& catalog);

}  // namespace espalier::config

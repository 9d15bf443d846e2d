#pragma once

#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier::config {

/// Whether a tree is a recipe of NeMo Automodel: it names a trainer, or targets of Python.
bool is_reference_recipe(const Value& tree);

/// Replaces `${NAME}`, `${NAME,default}`, `${oc.env:NAME}` and `$NAME` in every text by environment
/// variables and reads texts as Python literals, as Automodel does. Adds a problem for each
/// variable that is not set.
void substitute_reference_environment(Value& tree, ProblemList& problems);

struct TranslatedRecipe {
  Value tree;  ///< in the form of our own recipes; values keep their positions
  /// What is left out because it says how the reference computes, not what.
  std::vector<std::string> notes;
};

/// A recipe of Automodel in the form of ours. Which component a `_target_` means, and what its keys
/// are called there, is what the components' plugins declare (ComponentBuilder::alias). Throws one
/// Error with every target, section and key that has no counterpart.
TranslatedRecipe translate_reference_recipe(const Value& tree, const plugin::Catalog& catalog);

}  // namespace espalier::config

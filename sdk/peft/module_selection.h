#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/sdk/model.h"

namespace espalier::peft {

// Functions over a model read it, and are for the thread that has it.

/// Which modules get an update, by name.
struct Selection {
  std::vector<std::string> targets;
  std::vector<std::string> excludes;
  bool all_linear = false;  ///< every linear but the output head
  std::vector<std::int64_t> layers;
  std::vector<std::string> layers_pattern;
  /// True for the lists of an adapter_config.json: names and their ends, nothing else has a
  /// meaning, and a name that matches nothing is left aside.
  bool plain_names = false;
  /// In place of the lists: regular expressions of whole names (target_modules as a string in
  /// PEFT).
  std::string target_regex;
  std::string exclude_regex;
};

/// A module that can carry an update: exactly one of the two is set. It belongs to the model.
struct Target {
  std::string name;
  nn::Linear* linear = nullptr;
  nn::Embedding* embedding = nullptr;
};

/// All linears and embeddings of a model, in its order.
ESPALIER_API std::vector<Target> targets_of(Model& model);

/// Modules that `selection` names, without those inside `modules_to_save`. Throws Error(kBadInput)
/// with the nearest names for each pattern that matches nothing, and for patterns that are no
/// regular expressions.
ESPALIER_API std::vector<Target> select_modules(Model& model, const Selection& selection,
                                                const std::vector<std::string>& modules_to_save);

/// Names of all modules that own parameters or can be targets, outer ones too ("model.layers.0").
ESPALIER_API std::vector<std::string> module_names(Model& model);

/// True where `module` is named by `name` or by its end after a dot.
ESPALIER_API bool is_named(const std::string& name, const std::string& module);

/// PEFT's rule for rank_pattern and alpha_pattern: the whole name, or its end after a dot, matches
/// the regular expression.
ESPALIER_API bool ends_with_pattern(const std::string& pattern, const std::string& module);

/// Whether `pattern` matches the whole of `text`. Throws Error(kBadInput) when it is no regular
/// expression.
ESPALIER_API bool matches_regex(const std::string& pattern, const std::string& text);

/// "did you mean ..." over the short and long names of modules, or an example.
ESPALIER_API std::string nearest_modules(const std::string& pattern,
                                         const std::vector<std::string>& names);

}  // namespace espalier::peft

#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "lora_module.h"
#include "replaced_module.h"

namespace espalier::lora {

using Modules = std::vector<std::shared_ptr<LoraModule>>;
using Replacements = std::vector<Replacement>;

/// Puts updates and copies into the model's own weights. Throws Error(kUnsupported) where a weight
/// is used by two modules and not both of them change.
void merge_into(Model& model, const Modules& modules, const Replacements& replacements);

/// Takes the updates out again; modules in `restored` have the weight of their base already. Throws
/// Error(kUnsupported) with magnitudes or copies: what was there before is not known.
void unmerge_from(Model& model, const Modules& modules, const Replacements& replacements,
                  const std::set<std::string>& restored);

/// Sets A and B of each module to the nearest update of their rank (Eckart and Young 1936: the
/// largest singular values) to the difference between `tuned` and `model`, and copies to the values
/// of `tuned`. Returns the Frobenius norm of what is left over, as a share of the whole difference.
double extract_difference(Model& model, Model& tuned, const Modules& modules,
                          const Replacements& replacements);

}  // namespace espalier::lora

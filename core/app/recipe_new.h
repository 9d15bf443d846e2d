#pragma once

#include <string>
#include <vector>

namespace espalier::app {

/// espalier recipe new, with the words after it.
int run_recipe_new(const std::vector<std::string>& arguments);

}  // namespace espalier::app

#pragma once

#include <string>
#include <vector>

namespace espalier::app {

/// `espalier tokenize`.
int run_tokenize(const std::vector<std::string>& arguments);

}  // namespace espalier::app

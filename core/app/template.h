#pragma once

#include <string>
#include <vector>

namespace espalier::app {

/// `espalier template`: renders a conversation with a model's chat template.
int run_template(const std::vector<std::string>& arguments);

}  // namespace espalier::app

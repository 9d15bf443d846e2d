#include "app/command.h"

namespace espalier::app {

int run_plugins(const std::vector<std::string>& arguments);

std::span<const Command> commands() {
  static constexpr Command kCommands[] = {
      {"plugins", "list, inspect and explain plugins", run_plugins},
  };
  return kCommands;
}

}  // namespace espalier::app

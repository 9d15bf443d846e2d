#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::app {

/// One subcommand of the program. `run` gets the words after the command's name and returns the
/// exit code; it may throw Error, which main prints.
struct Command {
  std::string_view name;
  std::string_view summary;  ///< one line for `espalier --help`
  int (*run)(const std::vector<std::string>& arguments);
};

/// All subcommands, in the order in which help lists them.
std::span<const Command> commands();

}  // namespace espalier::app

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>

#include "app/command.h"
#include "app/libtorch.h"
#include "app/options.h"
#include "app/terminal.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/sdk/plugin.h"

namespace espalier::app {
namespace {

void print_overview() {
  std::puts(
      "Usage: espalier COMMAND [ARGUMENTS]\n\n"
      "Fine-tunes and pre-trains language models; everything a run is made of comes from "
      "plugins.\n\n"
      "Commands:");
  std::vector<std::vector<std::string>> rows;
  for (const Command& command : commands())
    rows.push_back({std::string(command.name), std::string(command.summary)});
  print_columns({}, rows, "  ");
  std::puts(
      "\nespalier COMMAND --help explains one command; espalier --version prints the version.");
}

void print_version() {
  std::printf("espalier %s\nplugin ABI  %d.%d\nfingerprint %s\n", ESPALIER_VERSION, kPluginAbiMajor,
              kPluginAbiMinor, ESPALIER_FINGERPRINT);
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  const std::string hint = did_you_mean(name, names);
  throw_bad_input("unknown command '" + name + "'", {}, "one of " + join_names(names),
                  "the command line", hint.empty() ? "see espalier --help" : hint);
}

int run(const std::vector<std::string>& words, char** arguments) {
  use_chosen_libtorch(arguments);
  if (words.empty()) {
    print_overview();
    return exit_code(ErrorCode::kBadInput);
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_overview();
    return 0;
  }
  if (words[0] == "--version") {
    print_version();
    return 0;
  }
  return find_command(words[0]).run({words.begin() + 1, words.end()});
}

/// Turns everything that can go wrong into a message and an exit code.
int run_guarded(const std::vector<std::string>& words, char** arguments) {
  const auto report = [&](const Error& error) {
    print_error(error);
    // Scripts that asked for JSON read stdout; people read stderr.
    if (std::find(words.begin(), words.end(), "--json") != words.end())
      std::puts(dump_json(error_to_value(error)).c_str());
    return exit_code(error.code());
  };
  try {
    return run(words, arguments);
  } catch (const HelpRequested&) {
    return 0;
  } catch (const Error& error) {
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(Error({ErrorCode::kIo,
                         "out of memory",
                         {},
                         {},
                         {},
                         "close other programs, or use a smaller batch or model"}));
  } catch (const std::exception& error) {
    return report(Error({ErrorCode::kInternal,
                         error.what(),
                         {},
                         {},
                         {},
                         "this is a bug; please report it with the command that led here"}));
  }
}

/// A full disk shows when the buffers are written, after the command believed itself done.
int flush_output(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  try {
    throw_io("write", "standard output", errno);
  } catch (const Error& error) {
    print_error(error);
    return exit_code(error.code());
  }
}

}  // namespace
}  // namespace espalier::app

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + std::max(argc, 1));
  const int code = espalier::app::flush_output(espalier::app::run_guarded(words, argv));
  std::fflush(stderr);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return code;  // leak checks run at a normal exit
#else
  // Plugins were shut down in order when their host went out of scope; no static destructor of
  // theirs, or of LibTorch, may run after that.
  ::_exit(code);
#endif
}

// Causes of a quick start. The times themselves depend on the machine: bench/startup.py measures
// them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <string_view>
#include <vector>

#include "espalier/base/file.h"
#include "fixture_path.h"
#include "support/process.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxLibraries = 20;
constexpr std::size_t kMaxOtherFiles = 8;  // besides the plugins that are looked at

struct StartupCase {
  const char* name;
  const char* arguments;
};

/// The words of the command line; text commands get a tokenizer and an input from the fixtures.
std::string command_line(const std::string& arguments) {
  const std::string model = " --model " + testing::fixture_path("tokenizers/llama3");
  const std::string input = testing::environment("ESPALIER_TEST_BUILD") + "/startup_input.json";
  if (arguments == "tokenize") {
    write_file_atomically(input, "{\"text\": \"a text\"}\n");
    return arguments + model + " --json --input " + input;
  }
  return arguments;
}

/// Runs the program with variables of the environment set.
testing::ProcessResult run_with(const std::string& variables, const std::string& arguments) {
  return testing::run_process(
      {"/bin/sh", "-c",
       variables + " '" + testing::environment("ESPALIER_BIN") + "' " + arguments});
}

/// Libraries that a command maps, at the start or later.
std::set<std::string> libraries_of(const std::string& arguments) {
  const testing::TemporaryFolder folder;
  const auto result = run_with("LD_DEBUG=files LD_DEBUG_OUTPUT=" + folder.file("debug"), arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::set<std::string> libraries;
  constexpr std::string_view kLabel = "calling init: ";
  // The shell writes a file too where it does not become the program.
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    std::istringstream lines(read_file(entry.path().string()));
    for (std::string line; std::getline(lines, line);) {
      const std::size_t label = line.find(kLabel);
      if (label != std::string::npos) libraries.insert(line.substr(label + kLabel.size()));
    }
  }
  return libraries;
}

/// Files that a command opens itself.
std::vector<std::string> files_of(const std::string& arguments) {
  const testing::TemporaryFolder folder;
  const std::string library = testing::environment("ESPALIER_TEST_BUILD") + "/libopen_log.so";
  const auto result =
      run_with("OPEN_LOG=" + folder.file("log") + " LD_PRELOAD=" + library, arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::vector<std::string> files;
  if (!fs::exists(folder.file("log"))) return files;
  std::istringstream lines(read_file(folder.file("log")));
  for (std::string line; std::getline(lines, line);) files.push_back(line);
  return files;
}

bool contains_text(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

bool is_libtorch(const std::string& library) {
  return contains_text(library, "libtorch") || contains_text(library, "libc10");
}

class Startup : public ::testing::TestWithParam<StartupCase> {};

TEST_P(Startup, MapsNoLibTorchAndFewLibraries) {
  const std::set<std::string> libraries = libraries_of(command_line(GetParam().arguments));
  EXPECT_FALSE(libraries.empty());
  for (const std::string& library : libraries) {
    EXPECT_FALSE(is_libtorch(library) || contains_text(library, ".espalier.so")) << library;
  }
  EXPECT_LE(libraries.size(), kMaxLibraries);
}

TEST_P(Startup, OpensFewFiles) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own library has to be the first that is preloaded";
#endif
  std::string others;
  std::size_t count = 0;
  for (const std::string& file : files_of(command_line(GetParam().arguments))) {
    if (contains_text(file, ".espalier.so")) continue;
    others += file + "\n";
    ++count;
  }
  EXPECT_LE(count, kMaxOtherFiles) << others;
}

TEST(StartupProbes, SeeLibTorchAndFilesWhereACommandComputes) {
  const std::string engine =
      testing::environment("ESPALIER_TEST_BUILD") + "/../lib/libespalier_engine.so";
  if (!fs::exists(engine)) GTEST_SKIP() << "this build has no engine";
  const std::string model = testing::fixture_path("models/llama");
  const std::string command =
      "parity --model " + model + " --expected " + model + "/expected.safetensors";
  const std::set<std::string> libraries = libraries_of(command);
  EXPECT_TRUE(std::any_of(libraries.begin(), libraries.end(), is_libtorch));
  const std::vector<std::string> files = files_of(command);
  EXPECT_NE(std::find(files.begin(), files.end(), model + "/config.json"), files.end());
}

INSTANTIATE_TEST_SUITE_P(Commands, Startup,
                         ::testing::Values(StartupCase{"help", "--help"},
                                           StartupCase{"version", "--version"},
                                           StartupCase{"list", "plugins list"},
                                           StartupCase{"list_json", "plugins list --json"},
                                           StartupCase{"train_help", "train --help"},
                                           StartupCase{"tokenize", "tokenize"}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace espalier

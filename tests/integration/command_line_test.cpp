#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "support/process.h"

namespace espalier {
namespace {

using testing::run_espalier;

std::string zoo() { return testing::environment("ESPALIER_TEST_BUILD") + "/zoo"; }

TEST(CommandLine, ExplainsItself) {
  const auto help = run_espalier({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(help.out.find("plugins"), std::string::npos);
  EXPECT_EQ(run_espalier({"--version"}).out.rfind("espalier ", 0), 0U);
  const auto command = run_espalier({"plugins", "--help"});
  EXPECT_EQ(command.exit_code, 0);
  EXPECT_NE(command.out.find("--plugin-path FOLDERS"), std::string::npos);
  EXPECT_EQ(run_espalier({}).exit_code, 2);
}

TEST(CommandLine, SuggestsWhatWasMeant) {
  const auto command = run_espalier({"plugin"});
  EXPECT_EQ(command.exit_code, 2);
  EXPECT_NE(command.err.find("did you mean 'plugins'?"), std::string::npos) << command.err;
  const auto option = run_espalier({"plugins", "list", "--plugin-pth", "x", "--jsn"});
  EXPECT_EQ(option.exit_code, 2);
  EXPECT_NE(option.err.find("did you mean '--plugin-path'"), std::string::npos) << option.err;
  EXPECT_NE(option.err.find("did you mean '--json'?"), std::string::npos) << option.err;
  const auto action = run_espalier({"plugins", "lst"});
  EXPECT_NE(action.err.find("did you mean 'list'?"), std::string::npos) << action.err;
}

TEST(CommandLine, PrintsErrorsAsJsonWhereAskedTo) {
  const auto result = run_espalier({"plugins", "inspect", "nothing", "--json"});
  EXPECT_EQ(result.exit_code, 2);
  const Value document = parse_json(result.out);
  EXPECT_EQ(document.find_path("error.code")->as_string(), "bad_input");
  EXPECT_EQ(document.find_path("error.exit_code")->as_int(), 2);
  EXPECT_EQ(result.err.find('\033'), std::string::npos);
}

TEST(CommandLine, SaysWhenItsOutputCannotBeWritten) {
  const auto result = testing::run_process(
      {"/bin/sh", "-c", "\"" + testing::environment("ESPALIER_BIN") + "\" --help > /dev/full"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
}

TEST(PluginsCommand, ListsAndInspectsWithoutRunningPluginCode) {
  const auto list = run_espalier({"plugins", "list", "--json", "--plugin-path", zoo()});
  EXPECT_EQ(list.exit_code, 0);
  const Value document = parse_json(list.out);
  ASSERT_GE(document.find("plugins")->as_array().size(), 2U);
  const auto inspect =
      run_espalier({"plugins", "inspect", "zoo.losses", "--json", "--plugin-path", zoo()});
  EXPECT_EQ(parse_json(inspect.out).find("license")->as_string(), "Apache-2.0");
  const auto table = run_espalier({"plugins", "inspect", "focal", "--plugin-path", zoo()});
  EXPECT_NE(table.out.find("a number >= 0 and <= 5"), std::string::npos) << table.out;
  const auto why = run_espalier({"plugins", "why", "focal", "--json", "--plugin-path", zoo()});
  EXPECT_TRUE(parse_json(why.out).find("usable")->as_bool());
}

TEST(PluginsCommand, DoctorHasAVerdictForEveryFile) {
  const testing::TemporaryFolder folder;
  folder.write("bad.espalier.so", "text");
  std::filesystem::copy_file(zoo() + "/zoo_losses.espalier.so", folder.file("good.espalier.so"));
  const auto result = run_espalier({"plugins", "doctor", "--json", "--plugin-path", folder.path()});
  EXPECT_EQ(result.exit_code, 3);
  const Value document = parse_json(result.out);
  EXPECT_FALSE(document.find("healthy")->as_bool());
  const Array& candidates = document.find("candidates")->as_array();
  EXPECT_EQ(candidates[0].find("verdict")->as_string(), "refused");
  EXPECT_EQ(candidates[1].find("verdict")->as_string(), "accepted");
  EXPECT_EQ(run_espalier({"plugins", "why", "bad", "--plugin-path", folder.path()}).exit_code, 3);
  EXPECT_EQ(run_espalier({"plugins", "list", "--plugin-path", folder.path()}).exit_code, 0);
}

TEST(PluginsCommand, NamedFilesNeedNoFolder) {
  const auto list =
      run_espalier({"plugins", "list", "--plugins",
                    zoo() + "/zoo_losses.espalier.so," + zoo() + "/zoo_training.espalier.so"});
  EXPECT_NE(list.out.find("focal"), std::string::npos);
  EXPECT_NE(list.out.find("descent"), std::string::npos);
}

TEST(Startup, OpensFewLibrariesAndNoLibTorch) {
  const auto result = testing::run_process({"/usr/bin/ldd", testing::environment("ESPALIER_BIN")});
  EXPECT_EQ(result.out.find("torch"), std::string::npos) << result.out;
  EXPECT_LE(std::count(result.out.begin(), result.out.end(), '\n'), 16) << result.out;
}

TEST(Startup, ScansTwoHundredPluginsWithinATenthOfASecond) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer slows the program down; the limit is for the build that users run";
#endif
  const testing::TemporaryFolder folder;
  const std::string original = folder.file("original");
  ASSERT_EQ(
      testing::run_process({"/usr/bin/strip", "-o", original, zoo() + "/zoo_losses.espalier.so"})
          .exit_code,
      0);
  std::string content = read_file(original);
  const std::size_t id = content.find("\"zoo.losses\"");
  ASSERT_NE(id, std::string::npos);
  for (int i = 0; i < 200; ++i) {
    content.replace(id, 12, "\"zoo.lo" + std::to_string(1000 + i) + "\"");
    folder.write(std::to_string(i) + ".espalier.so", content);
  }
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto list = run_espalier({"plugins", "list", "--plugin-path", folder.path()});
    EXPECT_NE(list.out.find("zoo.lo1199"), std::string::npos) << list.out;
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  EXPECT_LT(best, 0.1);
}

}  // namespace
}  // namespace espalier

#include <gtest/gtest.h>

#include "espalier/base/json.h"
#include "support/process.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

using testing::run_espalier;

std::string zoo() { return testing::environment("ESPALIER_TEST_BUILD") + "/zoo"; }

/// A recipe over the components of the zoo.
std::string recipe(const testing::TemporaryFolder& folder, const std::string& name,
                   const std::string& gamma) {
  return folder.write(name,
                      "[model]\npath = \"m\"\n[dataset]\ntype = \"lines\"\npath = \"x\"\n"
                      "[loss_fn]\ntype = \"zoo.losses/focal\"\ngamma = " +
                          gamma +
                          "\n[optimizer]\ntype = \"descent\"\n[objective]\ntype = \"next_token\"\n"
                          "[lr_scheduler]\ntype = \"flat\"\n[distributed]\ntype = \"alone\"\n");
}

TEST(RecipeCommand, ChecksAndFillsInDefaults) {
  const testing::TemporaryFolder folder;
  const auto good = run_espalier(
      {"recipe", "check", recipe(folder, "a.toml", "3.0"), "--plugin-path", zoo(), "--json"});
  ASSERT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(parse_json(good.out).find_path("loss_fn.gamma")->as_float(), 3.0);
  EXPECT_NE(parse_json(good.out).find_path("loss_fn.reduction"), nullptr);
  const auto bad =
      run_espalier({"recipe", "check", recipe(folder, "b.toml", "30.0"), "--plugin-path", zoo()});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_NE(bad.err.find("b.toml:8:"), std::string::npos) << bad.err;
}

TEST(RecipeCommand, ShowsInWhichSettingsTwoDiffer) {
  const testing::TemporaryFolder folder;
  const auto result = run_espalier({"recipe", "diff", recipe(folder, "a.toml", "3.0"),
                                    recipe(folder, "b.toml", "4.0"), "--plugin-path", zoo()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "- loss_fn.gamma = 3.0\n+ loss_fn.gamma = 4.0\n"
            "- output_dir = \"runs/a\"\n+ output_dir = \"runs/b\"\n");
}

TEST(RecipeCommand, WritesASchemaWithTheSettingsOfAllPlugins) {
  const auto result = run_espalier({"recipe", "schema", "--plugin-path", zoo()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Value schema = parse_json(result.out);
  const Value* alternatives = schema.find_path("properties.loss_fn.anyOf");
  ASSERT_NE(alternatives, nullptr);
  bool found = false;
  for (const Value& alternative : alternatives->as_array()) {
    if (alternative.find("title")->as_string() != "focal") continue;
    found = true;
    EXPECT_EQ(alternative.find_path("properties.gamma.maximum")->as_float(), 5.0);
    EXPECT_EQ(alternative.find_path("properties.reduction.enum")->as_array().size(), 2U);
    EXPECT_FALSE(alternative.find("additionalProperties")->as_bool());
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(schema.find_path("properties.model.required")->as_array().front().as_string(), "path");
}

TEST(CompletionCommand, BashCompletesCommandsOptionsAndRecipeKeys) {
  const std::string program = testing::environment("ESPALIER_BIN");
  const auto complete = [&](const std::string& words, int at) {
    const auto result = testing::run_process(
        {"/bin/bash", "-c",
         "espalier() { \"" + program + "\" \"$@\"; }; eval \"$(espalier completion bash)\"; " +
             "COMP_WORDS=(espalier " + words + "); COMP_CWORD=" + std::to_string(at) +
             "; _espalier 2>/dev/null; printf '%s\\n' \"${COMPREPLY[@]}\""});
    return result.out;
  };
  EXPECT_EQ(complete("gen", 1), "generate\n");
  EXPECT_NE(complete("plugins --plugin-p", 2).find("--plugin-path"), std::string::npos);
  EXPECT_EQ(complete("adapter mer", 2), "merge\n");
  EXPECT_NE(complete("train --step_scheduler.max", 2).find("--step_scheduler.max_steps="),
            std::string::npos);
  for (const char* shell : {"zsh", "fish"})
    EXPECT_NE(run_espalier({"completion", shell}).out.find("espalier completion words"),
              std::string::npos);
}

}  // namespace
}  // namespace espalier

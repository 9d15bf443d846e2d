#include "config/recipe.h"

#include <gtest/gtest.h>

#include "config/toml.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "support/temporary_folder.h"

namespace espalier::config {
namespace {

plugin::Catalog zoo() {
  return plugin::Catalog::scan({.folders = {testing::environment("ESPALIER_TEST_BUILD") + "/zoo"},
                                .environment = false,
                                .installation = false});
}

constexpr const char* kSmallest =
    "[model]\npath = \"m\"\n[dataset]\ntype = \"lines\"\npath = \"d\"\n";

std::string problems_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    resolve_recipe(parse_recipe(text, "r.toml", overrides), zoo());
  } catch (const Error& error) {
    return error.what();
  }
  return "no problem";
}

TEST(Recipe, FillsInTheDefaultsOfTheHostAndOfPlugins) {
  const ResolvedRecipe recipe = resolve_recipe(parse_recipe(kSmallest, "dir/tiny.toml"), zoo());
  EXPECT_EQ(recipe.run.output_dir, "runs/tiny");
  EXPECT_EQ(recipe.step_scheduler.global_batch_size, 32);
  EXPECT_EQ(recipe.step_scheduler.num_epochs, 1);
  EXPECT_EQ(recipe.clip_grad_norm.max_norm, 1.0);
  ASSERT_NE(recipe.find("loss_fn"), nullptr);
  EXPECT_EQ(recipe.find("loss_fn")->component.qualified_name(), "zoo.losses/plain");
  EXPECT_EQ(recipe.find("optimizer")->config.find("lr")->as_float(), 1e-3);
  EXPECT_EQ(recipe.find("peft"), nullptr);
  EXPECT_EQ(recipe.plugins().size(), 2U);
}

TEST(Recipe, ResolvedTextIsARecipeThatResolvesToItself) {
  const ResolvedRecipe recipe =
      resolve_recipe(parse_recipe(kSmallest, "tiny.toml",
                                  {"--optimizer.warmup.steps=3", "--step_scheduler.max_steps=5"}),
                     zoo());
  const std::string text = dump_toml(recipe.tree);
  const ResolvedRecipe again = resolve_recipe(parse_recipe(text, "other.toml"), zoo());
  EXPECT_EQ(dump_toml(again.tree), text);
  EXPECT_EQ(again.tree, recipe.tree) << text;
  EXPECT_NE(text.find("[optimizer.warmup]\nsteps = 3\n"), std::string::npos) << text;
}

TEST(Recipe, ReportsEverythingAtOnceWithItsPlace) {
  const std::string text = problems_of(R"(sed = 1
[model]
path = 7
[dataset]
type = "line"
[optimzer]
lr = 1
[loss_fn]
type = "focal"
gama = 1.0
gamma = 9.0
[step_scheduler]
max_steps = 0
)");
  for (const char* expected :
       {"unknown key 'sed'", "r.toml:1:1", "did you mean 'seed'?",
        "'model.path' has the wrong type", "r.toml:3:1", "there is no Dataset 'line'", "r.toml:5:1",
        "did you mean 'lines'?", "unknown section 'optimzer'", "r.toml:6:2",
        "did you mean 'optimizer'?", "unknown key 'loss_fn.gama'", "r.toml:10:1",
        "did you mean 'gamma'?", "'loss_fn.gamma' is out of range", "r.toml:11:1",
        "'step_scheduler.max_steps' is out of range", "r.toml:13:1"})
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
}

TEST(Recipe, OverridesAreCheckedLikeTheFile) {
  const std::string text = problems_of(kSmallest, {"--optimizer.lrr=1", "--optimizer.lr=-1"});
  EXPECT_NE(text.find("where:    --optimizer.lrr"), std::string::npos) << text;
  EXPECT_NE(text.find("-1\n  expected: a number > 0\n  where:    --optimizer.lr"),
            std::string::npos)
      << text;
}

TEST(Recipe, TakesTheTypeOfTheDatasetForValidation) {
  const ResolvedRecipe recipe = resolve_recipe(
      parse_recipe(std::string(kSmallest) + "[validation_dataset]\npath = \"v\"\n", "r.toml"),
      zoo());
  EXPECT_EQ(recipe.find("validation_dataset")->component.component->name, "lines");
}

TEST(Recipe, TakesFurtherValidationSetsByName) {
  const ResolvedRecipe recipe = resolve_recipe(
      parse_recipe(std::string(kSmallest) + "[validation_dataset_news]\npath = \"v\"\n", "r.toml"),
      zoo());
  EXPECT_EQ(recipe.find("validation_dataset_news")->component.component->name, "lines");
  EXPECT_NE(recipe.tree.find("validation_dataset_news"), nullptr);
  EXPECT_NE(problems_of(std::string(kSmallest) + "[validation_dataset_]\npath = \"v\"\n")
                .find("unknown section"),
            std::string::npos);
  EXPECT_NE(
      problems_of(std::string(kSmallest) + "[model_news]\npath = \"v\"\n").find("unknown section"),
      std::string::npos);
}

TEST(Recipe, ResolvesComponentsInsideComponents) {
  const std::string base =
      std::string(kSmallest) + "mixed_with = [{type = \"lines\", path = \"b\"}, ";
  const ResolvedRecipe recipe =
      resolve_recipe(parse_recipe(base + "{type = \"lines\", path = \"c\"}]\n", "r.toml"), zoo());
  ASSERT_NE(recipe.find("dataset.mixed_with[1]"), nullptr);
  EXPECT_EQ(recipe.find("dataset.mixed_with[1]")->config.find("path")->as_string(), "c");
  const std::string text = problems_of(base + "{type = \"linse\", path = \"c\"}]\n");
  EXPECT_NE(text.find("did you mean 'lines'?"), std::string::npos) << text;
}

TEST(Recipe, WantsWholeMicroBatches) {
  const std::string text =
      problems_of(std::string(kSmallest) + "[step_scheduler]\nglobal_batch_size = 12\n");
  EXPECT_NE(text.find("no multiple of local_batch_size"), std::string::npos) << text;
  EXPECT_NE(text.find("r.toml:7:1"), std::string::npos) << text;
}

TEST(Recipe, SaysWhichSectionIsMissing) {
  const std::string text = problems_of("seed = 1\n");
  EXPECT_NE(text.find("'model.path' is missing"), std::string::npos) << text;
  EXPECT_NE(text.find("'dataset.type' is missing"), std::string::npos) << text;
}

TEST(Recipe, SectionsAreTables) {
  const std::string text = problems_of(std::string("optimizer = \"adamw\"\n") + kSmallest);
  EXPECT_NE(text.find("'optimizer' is a section"), std::string::npos) << text;
  EXPECT_NE(text.find("r.toml:1:1"), std::string::npos) << text;
}

TEST(Recipe, RefusesAPluginThatIsNotThere) {
  const std::string text = problems_of(std::string(kSmallest) + "[peft]\ntype = \"lora\"\n");
  EXPECT_NE(text.find("there is no Adapter 'lora'"), std::string::npos) << text;
}

}  // namespace
}  // namespace espalier::config

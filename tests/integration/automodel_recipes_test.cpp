// Recipes in the form of NeMo Automodel, by the program.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "fixture_path.h"
#include "support/process.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;
using testing::run_espalier;

class AutomodelRecipes : public ::testing::Test {
 protected:
  /// A folder with a config, a tokenizer and no weights.
  AutomodelRecipes() {
    Value config = read_json_file(fixture_path("models/llama/config.json"));
    constexpr int kVocabulary = 1200;
    config.as_table().set("vocab_size", kVocabulary);
    fs::create_directory(folder_.file("model"));
    write_file_atomically(folder_.file("model/config.json"), dump_json(config));
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
      fs::copy(fixture_path(std::string("tokenizers/gpt2/") + name),
               folder_.file("model/" + std::string(name)));
    ::setenv("ESPALIER_TEST_MODEL", folder_.file("model").c_str(), 1);
    ::setenv("ESPALIER_TEST_DATA", fixture_path("data").c_str(), 1);
    ::unsetenv("ESPALIER_TEST_OUTPUT");
  }

  static std::string recipe(const std::string& name) { return fixture_path("automodel/" + name); }

  /// The resolved recipe.
  static Value checked(const std::string& name) {
    const auto result = run_espalier({"recipe", "check", recipe(name), "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out);
  }

  static std::string at(const Value& tree, const std::string& path) {
    const Value* value = tree.find_path(path);
    return value == nullptr ? "nothing" : dump_json(*value);
  }

  testing::TemporaryFolder folder_;
};

TEST_F(AutomodelRecipes, KeysAndTargetsGetTheirCounterparts) {
  const Value full = checked("squad_full.yaml");
  EXPECT_EQ(at(full, "dataset.type"), "\"squad\"");
  EXPECT_EQ(at(full, "validation_dataset.limit_dataset_samples"), "4");
  EXPECT_EQ(at(full, "optimizer.type"), "\"adam\"");
  EXPECT_EQ(at(full, "optimizer.weight_decay"), "0");
  EXPECT_EQ(at(full, "lr_scheduler.automodel_defaults"), "true");
  EXPECT_EQ(at(full, "lr_scheduler.min_lr"), "1e-06");
  EXPECT_EQ(at(full, "distributed.type"), "\"fsdp2\"");
  EXPECT_EQ(at(full, "model.dtype"), "\"float32\"");
  EXPECT_EQ(at(full, "dataloader.drop_last"), "true");
  EXPECT_EQ(at(full, "seed"), "42");
  const Value lora = checked("lora_ddp.yaml");
  EXPECT_EQ(at(lora, "peft.dim"), "4");
  EXPECT_EQ(at(lora, "optimizer.betas"), "[0.9, 0.95]");
  EXPECT_EQ(at(lora, "dataloader.pad_seq_len_divisible"), "8");
  EXPECT_EQ(at(lora, "dist_env.timeout_minutes"), "5");
  EXPECT_EQ(at(lora, "validation_dataset.column_mapping.answer"), "\"title\"");
  EXPECT_EQ(at(lora, "output_dir"), "\"checkpoints\"");
  EXPECT_EQ(at(lora, "seed"), "7");
  const Value mock = checked("mock_packed.yaml");
  EXPECT_EQ(at(mock, "model.from_config"), "true");
  EXPECT_EQ(at(mock, "packed_sequence.packing_strategy"), "\"best_fit\"");
  EXPECT_EQ(at(mock, "distributed.activation_checkpointing"), "true");
  EXPECT_EQ(at(mock, "step_scheduler.local_batch_size"), "1");
  EXPECT_EQ(at(mock, "checkpoint.enabled"), "false");
}

TEST_F(AutomodelRecipes, EverythingWithoutACounterpartIsSaidAtOnce) {
  const auto result = run_espalier({"recipe", "check", recipe("unsupported.yaml")});
  EXPECT_EQ(result.exit_code, 4) << result.err;
  for (const char* part :
       {"'recipe' has no counterpart", "the nearest is nemo_automodel.recipes.llm.train_ft",
        "'step_scheduler.save_checkpoint_every_epoch' has no counterpart with this value",
        "'step_scheduler.max_stepz' has no counterpart", "did you mean 'max_steps'",
        "'model' has no counterpart", "unsupported.yaml:11:3",
        "'distributed' has no counterpart among the plugins", "megatron_fsdp",
        "'loss_fn' has no counterpart among the plugins", "TEParallelCrossEntropy",
        "'dataset' has no counterpart among the plugins",
        "'optimizer' has no counterpart among the plugins", "the nearest is torch.optim.Adam",
        "'dataloader.collate_fn' has no counterpart", "the section 'fp8' has no counterpart"})
    EXPECT_NE(result.err.find(part), std::string::npos) << part << "\n" << result.err;
}

TEST_F(AutomodelRecipes, WhatIsLeftOutIsSaid) {
  const auto result = run_espalier({"recipe", "check", recipe("lora_ddp.yaml")});
  EXPECT_NE(result.err.find("peft.use_triton is left out"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("optimizer.fused is left out"), std::string::npos) << result.err;
}

TEST_F(AutomodelRecipes, TheConvertedRecipeResolvesToTheSameRun) {
  for (const std::string name : {"squad_full", "lora_ddp", "mock_packed"}) {
    const std::string toml = folder_.file(name + ".toml");
    const auto converted =
        run_espalier({"recipe", "convert", recipe(name + ".yaml"), "--output", toml});
    ASSERT_EQ(converted.exit_code, 0) << converted.err;
    const auto again = run_espalier({"recipe", "check", toml, "--json"});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(again.out, run_espalier({"recipe", "check", recipe(name + ".yaml"), "--json"}).out);
  }
}

TEST_F(AutomodelRecipes, OverridesNameTheKeysOfTheRecipe) {
  const auto result = run_espalier({"recipe", "check", recipe("mock_packed.yaml"), "--json",
                                    "--dataset.seq_len=12", "--optimizer.lr=1e-2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(at(parse_json(result.out), "dataset.seq_length"), "12");
  EXPECT_EQ(at(parse_json(result.out), "optimizer.lr"), "0.01");
}

TEST_F(AutomodelRecipes, TheyTrain) {
  const std::string first = folder_.file("first");
  auto result = run_espalier({"train", recipe("mock_packed.yaml"), "--output_dir=" + first});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  ::setenv("ESPALIER_TEST_MODEL", (first + "/final").c_str(), 1);
  result =
      run_espalier({"train", recipe("squad_full.yaml"), "--output_dir=" + folder_.file("second")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder_.file("second/final/model.safetensors")));
  ::setenv("ESPALIER_TEST_OUTPUT", folder_.file("third").c_str(), 1);
  result = run_espalier({"train", recipe("lora_ddp.yaml")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder_.file("third/final/adapter_model.safetensors")));
}

}  // namespace
}  // namespace espalier

// Level 3 of the contract for strategies, on every one of this build: N ranks learn what one
// learns, over collectives that are late and out of order on purpose. Ranks are threads.
#include <gtest/gtest.h>

#include "support/rank_training.h"

namespace espalier {
namespace {

using Setting = testing::RankTraining;

class Strategies : public ::testing::TestWithParam<std::tuple<int, Setting>> {};

TEST_P(Strategies, LearnWhatOneRankLearns) {
  const auto& [ranks, setting] = GetParam();
  const auto [alone, results] = testing::expect_same_training(setting, ranks);
  for (const testing::RankResult& result : results) {
    // A rank reads what it holds, in the dtype of the files.
    if (result.bytes_read > 0) {
      EXPECT_LE(result.bytes_read, result.own_elements * static_cast<std::int64_t>(sizeof(float)));
    }
  }
  // What is sharded is held once by all ranks of a copy together.
  if (setting.strategy != "ddp" && ranks > 1) {
    std::int64_t held = 0;
    for (const testing::RankResult& result : results) held += result.own_elements;
    EXPECT_LT(held, ranks * alone.whole_elements * 3 / 4);
  }
}

std::vector<Setting> settings() {
  return {{"ddp", ""},
          {"ddp", "bucket_cap_mb=1,activation_checkpointing=true"},
          {"ddp", "", "gpt2", "*.0.*", 2},
          {"fsdp2", ""},
          {"fsdp2", "", "gpt2"},
          {"fsdp2", "", "qwen2", "*embed_tokens*", 2},
          {"fsdp2", "reshard_after_forward=false,defer_fsdp_grad_sync=false"},
          {"fsdp2", "enable_fsdp2_prefetch=true", "llama_tied"},
          {"fsdp2", "cpu_offload=true", "qwen2", "", 2},
          {"fsdp2", "activation_checkpointing=true", "llama", "*.layers.0.*"}};
}

INSTANTIATE_TEST_SUITE_P(Of, Strategies,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4),
                                            ::testing::ValuesIn(settings())));

INSTANTIATE_TEST_SUITE_P(
    Hybrid, Strategies,
    ::testing::Combine(::testing::Values(4),
                       ::testing::Values(Setting{"fsdp2", "dp_replicate_size=2"},
                                         Setting{"fsdp2", "dp_replicate_size=2", "gpt2",
                                                 "*wte*"})));

/// Adapters that start without the model's weights leave each rank to read its part.
class ShardedAdapters : public Strategies {};

TEST_P(ShardedAdapters, LearnWhatOneRankLearns) {
  const auto& [ranks, setting] = GetParam();
  const auto [alone, results] = testing::expect_same_training(setting, ranks);
  const bool needs_weights = setting.adapter.find("use_dora") != std::string::npos ||
                             setting.adapter.find("modules_to_save") != std::string::npos ||
                             setting.adapter.find("token_ids") != std::string::npos;
  for (const testing::RankResult& result : results) {
    EXPECT_EQ(result.bytes_read > 0, !needs_weights);
    EXPECT_LE(result.bytes_read, result.own_elements * static_cast<std::int64_t>(sizeof(float)));
  }
}

std::vector<Setting> sharded_adapters() {
  const auto with = [](const std::string& adapter, const std::string& options = {}) {
    return Setting{
        .strategy = "fsdp2", .options = options, .adapter = "{\"type\": " + adapter + "}"};
  };
  const std::string modules =
      R"("dim": 4, "target_modules": ["*_proj", "lm_head", "*embed_tokens"])";
  return {with("\"lora\", " + modules),
          with("\"lora\", " + modules, "tp_size=2"),
          with("\"lora\", \"use_dora\": true, " + modules),
          with(R"("lora", "dim": 4, "target_modules": ["*v_proj"], "modules_to_save": ["norm"])"),
          with("\"ia3\""),
          with(R"("prompt_tuning", "num_virtual_tokens": 3)"),
          with(R"("prompt_tuning", "num_virtual_tokens": 2, "prompt_tuning_init": "token_ids",
                  "init_token_ids": [5, 9])"),
          with(R"("prefix_tuning", "num_virtual_tokens": 2)")};
}

INSTANTIATE_TEST_SUITE_P(Of, ShardedAdapters,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::ValuesIn(sharded_adapters())));

/// Rules that look at whole parameters see them whole, and each state is on one rank.
class WholeParameterRules : public Strategies {};

TEST_P(WholeParameterRules, HoldStateOnce) {
  const auto& [ranks, setting] = GetParam();
  const auto [alone, results] = testing::expect_same_training(setting, ranks);
  std::int64_t held = 0;
  for (const testing::RankResult& result : results) held += result.state_bytes;
  EXPECT_EQ(held, alone.state_bytes);
}

Setting with_optimizer(Setting setting, const char* optimizer) {
  setting.optimizer = optimizer;
  return setting;
}

INSTANTIATE_TEST_SUITE_P(
    Sharded, WholeParameterRules,
    ::testing::Combine(::testing::Values(2, 3, 4),
                       ::testing::Values(with_optimizer({"fsdp2", ""}, "muon"),
                                         with_optimizer({"fsdp2", "", "qwen2", "", 2}, "adafactor"),
                                         with_optimizer({"fsdp2", "", "llama", "*.layers.0.*"},
                                                        "adamw_8bit"))));

INSTANTIATE_TEST_SUITE_P(
    WholeParameters, Strategies,
    ::testing::Combine(::testing::Values(4),
                       ::testing::Values(with_optimizer({"fsdp2", "dp_replicate_size=2"}, "muon"),
                                         with_optimizer({"fsdp2", "tp_size=2"}, "adafactor"),
                                         with_optimizer({"fsdp2", "tp_size=2", "qwen2"}, "muon"),
                                         with_optimizer({"ddp", ""}, "adamw_8bit"))));

std::vector<Setting> shared_settings() {
  return {
      {"fsdp2", "tp_size=2"},
      {"fsdp2", "tp_size=2", "qwen2"},
      {"fsdp2", "tp_size=2", "gpt2"},
      {"fsdp2", "tp_size=2,sequence_parallel=true"},
      {"fsdp2", "tp_size=2,sequence_parallel=true", "gpt2"},
      {"fsdp2", "tp_size=2,sequence_parallel=true", "qwen2", "*.layers.0.*", 2},
      {"fsdp2", "tp_size=2,activation_checkpointing=true", "gpt2", "*wte*"},
      {"fsdp2", "tp_size=2,sequence_parallel=true,activation_checkpointing=true", "llama_tied"}};
}

INSTANTIATE_TEST_SUITE_P(TensorParallel, Strategies,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::ValuesIn(shared_settings())));

INSTANTIATE_TEST_SUITE_P(AllThree, Strategies,
                         ::testing::Combine(::testing::Values(8),
                                            ::testing::Values(Setting{
                                                "fsdp2", "tp_size=2,dp_replicate_size=2"})));

}  // namespace
}  // namespace espalier

// Ranks that share the matrices of a model learn what one process learns: the vocabulary cut into
// uneven runs, fewer key heads than ranks, plans of the recipe, every loss, adapters on every kind
// of shared module. Ranks are threads.
#include <gtest/gtest.h>

#include "espalier/base/error.h"
#include "support/rank_training.h"

namespace espalier {
namespace {

using Setting = testing::RankTraining;

// Six heads for three ranks, and a vocabulary that none divides.
constexpr const char* kSixHeads =
    R"({"num_attention_heads": 6, "num_key_value_heads": 3, "hidden_size": 48, "intermediate_size": 96,
        "vocab_size": 257, "initializer_range": 0.1})";
constexpr const char* kFusedSixHeads =
    R"({"n_head": 6, "n_embd": 48, "vocab_size": 257, "initializer_range": 0.1})";

class TensorParallelism : public ::testing::TestWithParam<std::tuple<int, Setting>> {};

TEST_P(TensorParallelism, LearnsWhatOneProcessLearns) {
  const auto& [ranks, setting] = GetParam();
  testing::expect_same_training(setting, ranks);
}

std::vector<Setting> vocabularies() {
  return {{"fsdp2", "tp_size=3", "llama", "", 1, "auto", kSixHeads},
          {"fsdp2", "tp_size=3", "gpt2", "", 2, "auto", kFusedSixHeads},
          {"fsdp2", "tp_size=3,sequence_parallel=true", "qwen2", "", 1, "auto", kSixHeads},
          {"fsdp2", "tp_size=3,sequence_parallel=true", "llama", "*embed*", 2, "auto", kSixHeads}};
}

INSTANTIATE_TEST_SUITE_P(UnevenVocabulary, TensorParallelism,
                         ::testing::Combine(::testing::Values(3, 6),
                                            ::testing::ValuesIn(vocabularies())));

INSTANTIATE_TEST_SUITE_P(
    FewerKeyHeadsThanRanks, TensorParallelism,
    ::testing::Combine(::testing::Values(4, 8),
                       ::testing::Values(Setting{"fsdp2", "tp_size=4"},
                                         Setting{"fsdp2", "tp_size=4,sequence_parallel=true",
                                                 "qwen2", "*.layers.0.*"})));

std::vector<Setting> losses() {
  const std::string numbers = R"("label_smoothing": 0.1, "z_loss": 0.02, "soft_cap": 3.0)";
  std::vector<Setting> settings;
  for (const auto& [loss, more] : {std::pair("masked_cross_entropy", ""),
                                   std::pair("chunked_cross_entropy", ", \"chunk_len\": 3"),
                                   std::pair("fused_linear_cross_entropy", "")}) {
    settings.push_back({.strategy = "fsdp2",
                        .options = "tp_size=2,sequence_parallel=true",
                        .model = "qwen2",
                        .config = R"({"vocab_size": 255, "initializer_range": 0.1})",
                        .loss = loss,
                        .loss_options = "{" + numbers + more + "}"});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(Losses, TensorParallelism,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::ValuesIn(losses())));

std::vector<Setting> plans() {
  std::vector<Setting> settings;
  for (
      const char* plan :
      {R"("lm_head": "replicated")", R"("model.embed_tokens": "replicated")",
       R"("model.layers.*.mlp.*": "replicated")",
       R"("model.layers.0.self_attn.*": "replicated", "lm_head": "rowwise_rep")",
       R"("*.self_attn.[qkv]_proj": "colwise_gather_output", "*.o_proj": "rowwise_split_input")",
       R"("*.mlp.gate_proj": "colwise_rep", "*.mlp.up_proj": "rowwise_rep", "*.mlp.down_proj": "colwise_rep")"}) {
    settings.push_back({.strategy = "fsdp2",
                        .options = std::string(R"({"tp_size": 2, "tp_plan": {)") + plan + "}}"});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(Plans, TensorParallelism,
                         ::testing::Combine(::testing::Values(2, 4), ::testing::ValuesIn(plans())));

std::vector<Setting> adapters() {
  const std::string modules =
      R"("target_modules": ["*_proj", "lm_head", "*embed_tokens"], "dim": 4, "alpha": 8)";
  const std::string fused = R"("target_modules": ["*c_attn", "*c_proj", "*c_fc"], "dim": 4)";
  const auto with = [](const std::string& options, const std::string& model,
                       const std::string& adapter, const std::string& config = {}) {
    return Setting{.strategy = "fsdp2",
                   .options = options,
                   .model = model,
                   .config = config,
                   .adapter = "{\"type\": " + adapter + "}"};
  };
  return {
      with("tp_size=2", "llama", "\"lora\", " + modules),
      with("tp_size=2,sequence_parallel=true", "llama",
           "\"lora\", \"dropout\": 0.3, \"dropout_position\": \"pre\", " + modules),
      with("tp_size=2,activation_checkpointing=true", "llama",
           "\"lora\", \"dropout\": 0.3, " + modules),
      with("tp_size=2", "qwen2", "\"lora\", \"use_dora\": true, " + modules),
      with("tp_size=2,sequence_parallel=true", "gpt2",
           "\"lora\", \"use_dora\": true, \"dropout\": 0.2, " + fused),
      with("tp_size=2", "gpt2",
           "\"lora\", \"use_dora\": true, \"dropout\": 0.2, \"dropout_position\": \"pre\", " +
               fused),
      with("tp_size=2,sequence_parallel=true", "qwen2",
           R"("lora", "target_modules": ["*q_proj", "*v_proj"], "bias": "all")"),
      with("tp_size=2", "gpt2", "\"lora\", \"bias\": \"all\", " + fused),
      with(
          "tp_size=2,sequence_parallel=true", "llama",
          R"("lora", "target_modules": ["*v_proj"], "modules_to_save": ["lm_head", "norm", "embed_tokens"])"),
      with(R"({"tp_size": 2, "tp_plan": {"*.mlp.*": "replicated"}})", "llama",
           "\"lora\", " + modules),
      with("tp_size=2", "llama", "\"ia3\""),
      with("tp_size=2,sequence_parallel=true", "gpt2", "\"ia3\""),
      with("tp_size=2,sequence_parallel=true", "llama",
           "\"prompt_tuning\", \"num_virtual_tokens\": 3"),
  };
}

INSTANTIATE_TEST_SUITE_P(Adapters, TensorParallelism,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::ValuesIn(adapters())));

INSTANTIATE_TEST_SUITE_P(
    AdaptersOfFewKeyHeads, TensorParallelism,
    ::testing::Combine(
        ::testing::Values(4),
        ::testing::Values(
            Setting{.strategy = "fsdp2",
                    .options = "tp_size=4",
                    .adapter =
                        R"({"type": "lora", "dim": 4, "target_modules": ["*_proj", "lm_head"]})"},
            Setting{.strategy = "fsdp2",
                    .options = "tp_size=4,sequence_parallel=true",
                    .model = "qwen2",
                    .adapter = R"({"type": "ia3"})"})));

/// What is refused before anything is cut: (setting, words of the message).
using Refusal = std::pair<Setting, std::vector<std::string>>;
class TensorParallelismRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(TensorParallelismRefuses, BeforeTheRun) {
  const auto& [setting, words] = GetParam();
  ComponentLibrary library;
  try {
    testing::train_ranks(library, setting, 4);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    for (const std::string& word : words)
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Each, TensorParallelismRefuses,
    ::testing::Values(
        // Several problems, all at once.
        Refusal{
            {.strategy = "fsdp2",
             .options = "tp_size=4",
             .config = R"({"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8,
                               "intermediate_size": 66})"},
            {"axis 'heads'", "6 over 4", "axis 'kv_heads'", "3 over 4", "axis 'mlp'", "66 over 4"}},
        Refusal{{.strategy = "fsdp2", .options = "tp_size=4", .config = R"({"vocab_size": 3})"},
                {"fewer tokens than ranks", "3 over 4"}},
        Refusal{{.strategy = "fsdp2", .options = R"({"tp_plan": {"lm_head": "colwise"}})"},
                {"nobody to share modules with", "distributed.tp_plan"}},
        Refusal{
            {.strategy = "fsdp2", .options = R"({"tp_size": 2, "tp_plan": {"lm_head": "sideways",
                     "model.layers.*.self_attn.qproj": "colwise", "model.embed_tokens": "colwise"}})"},
            {"sideways", "colwise, rowwise", "model.layers.*.self_attn.q_proj",
             "cut by the vocabulary alone"}},
        Refusal{{.strategy = "fsdp2",
                 .options = R"({"tp_size": 2, "tp_plan": {"*.0.mlp.down_proj": "colwise",
                     "*.1.mlp.down_proj": "replicated"}})"},
                {"needs all outputs", "cuts one linear and not another",
                 "model.layers.1.mlp.down_proj"}},
        Refusal{{.strategy = "fsdp2",
                 .options = R"({"tp_size": 2, "tp_plan": {"lm_head": "replicated"}})",
                 .model = "qwen2"},
                {"one weight", "model.embed_tokens and lm_head"}},
        Refusal{{.strategy = "fsdp2", .options = R"({"tp_size": 2, "sequence_parallel": true,
                     "tp_plan": {"*.mlp.*": "replicated"}})"},
                {"one way alone", "sequence_parallel"}},
        Refusal{{.strategy = "fsdp2",
                 .options = "tp_size=2",
                 .adapter = R"({"type": "prefix_tuning", "num_virtual_tokens": 2})"},
                {"inside of attention", "tp_size"}},
        Refusal{{.strategy = "fsdp2",
                 .options = "tp_size=2,sequence_parallel=true",
                 .model = "mixtral"},
                {"router"}}));

}  // namespace
}  // namespace espalier

// Which blocks, or parts of them, are computed again in the backward pass.
#include "espalier/parallel/activation_checkpointing.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <map>

#include "engine/run/component_library.h"
#include "espalier/nn/linear.h"
#include "fixture_path.h"

namespace espalier {
namespace {

using parallel::CheckpointingConfig;
using testing::fixture_path;

/// How often each linear read its input in a forward and a backward pass.
std::map<std::string, int> passes(const CheckpointingConfig& config) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(fixture_path("models/llama"));
  Model& model = *loaded.model;
  model.set_training(true);
  std::map<std::string, int> count;
  for (nn::Linear* linear : model.parts().linears) {
    linear->redistribution().input = [&count, linear](const at::Tensor& x) {
      ++count[linear->name()];
      return x;
    };
  }
  model.set_block_runner(parallel::checkpointing_runner(model, config));
  const at::Tensor ids = at::arange(3, 11, at::kLong).view({1, 8});
  model.forward({{{"input_ids", ids}}}).hidden.sum().backward();
  for (const auto& parameter : model.parts().parameters) {
    const bool in_block = parameter->name().find("layers.") != std::string::npos;
    EXPECT_TRUE(!in_block || parameter->value().grad().defined()) << parameter->name();
  }
  return count;
}

TEST(ActivationCheckpointing, ComputesAllBlocksAgain) {
  const auto count = passes({});
  EXPECT_EQ(count.at("model.layers.0.self_attn.q_proj"), 2);
  EXPECT_EQ(count.at("model.layers.1.mlp.up_proj"), 2);
}

TEST(ActivationCheckpointing, TakesEverySoManiethBlock) {
  CheckpointingConfig config;
  config.every = 2;
  const auto count = passes(config);
  EXPECT_EQ(count.at("model.layers.0.self_attn.q_proj"), 2);
  EXPECT_EQ(count.at("model.layers.0.mlp.up_proj"), 2);
  EXPECT_EQ(count.at("model.layers.1.self_attn.q_proj"), 1);
}

TEST(ActivationCheckpointing, TakesBlocksByName) {
  CheckpointingConfig config;
  config.blocks = {"*.1"};
  const auto count = passes(config);
  EXPECT_EQ(count.at("model.layers.0.mlp.up_proj"), 1);
  EXPECT_EQ(count.at("model.layers.1.mlp.up_proj"), 2);
}

TEST(ActivationCheckpointing, TakesAPartOfABlock) {
  for (const bool attention : {true, false}) {
    CheckpointingConfig config;
    config.part = attention ? "attention" : "mlp";
    const auto count = passes(config);
    EXPECT_EQ(count.at("model.layers.0.self_attn.q_proj"), attention ? 2 : 1);
    EXPECT_EQ(count.at("model.layers.0.mlp.up_proj"), attention ? 1 : 2);
  }
}

TEST(ActivationCheckpointing, RefusesAPatternThatMatchesNoBlock) {
  CheckpointingConfig config;
  config.blocks = {"*.h.0"};
  try {
    passes(config);
    FAIL() << "the pattern was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.0"), std::string::npos);
  }
}

}  // namespace
}  // namespace espalier

// What a recipe's [freeze_config] leaves out of training, and the work that is saved by it.
#include "engine/run/freezing.h"

#include <gtest/gtest.h>

#include "engine/run/component_library.h"
#include "engine/run/score.h"
#include "espalier/base/error.h"
#include "espalier/io/tensor_io.h"
#include "fixture_path.h"
#include "product_counter.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::ProductCounter;

std::map<std::string, at::Tensor> llama_batch() {
  auto expected = read_tensors(fixture_path("models/llama/expected.safetensors"));
  return {{"input_ids", expected.at("input_ids")}, {"labels", expected.at("labels")}};
}

config::FreezeConfig freeze(std::vector<std::string> patterns,
                            std::vector<std::string> except = {}) {
  config::FreezeConfig config;
  config.patterns = std::move(patterns);
  config.except = std::move(except);
  return config;
}

TEST(Freezing, PatternsNameWhatIsNotTrainedAndExceptionsStay) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(fixture_path("models/llama"));
  freeze_parameters(*loaded.model, freeze({"model.layers.*"}, {"*.1.*norm.weight"}));
  for (const auto& parameter : loaded.model->parts().parameters) {
    const std::string& name = parameter->name();
    const bool norm = name.find("layers.1.") != std::string::npos && name.ends_with("norm.weight");
    EXPECT_EQ(parameter->trainable(), norm || name.find(".layers.") == std::string::npos) << name;
  }
}

TEST(Freezing, NothingIsComputedForFrozenWeightsNorBelowTheFirstTrainableBlock) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(fixture_path("models/llama"));
  const auto plain = library.from_pretrained(fixture_path("models/llama"));
  freeze_parameters(*loaded.model, freeze({"*"}, {"model.layers.1.mlp.down_proj.weight"}));
  {
    const ProductCounter counter;
    score(*loaded.model, llama_batch(), {false, true, false});
    // Forward: 7 linears in each of 2 layers and the head. Backward: through the head, and the one
    // weight.
    EXPECT_EQ(ProductCounter::count(), 2 * 7 + 1 + 2);
  }
  score(*plain.model, llama_batch(), {false, true, false});
  const auto& parameters = loaded.model->parts().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor grad = parameters[i]->value().grad();
    EXPECT_EQ(grad.defined(), parameters[i]->trainable()) << parameters[i]->name();
    const at::Tensor whole = plain.model->parts().parameters[i]->value().grad();
    EXPECT_TRUE(!grad.defined() || grad.equal(whole)) << parameters[i]->name();
  }
}

TEST(Freezing, WhatTheModelHasNotIsAnError) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(fixture_path("models/llama"));
  config::FreezeConfig config = freeze({"model.embed_tokns.weight"});
  config.freeze_audio_tower = true;
  try {
    freeze_parameters(*loaded.model, config);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("did you mean 'model.embed_tokens.weight'"), std::string::npos) << text;
    EXPECT_NE(text.find("freeze_config.freeze_audio_tower"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace espalier

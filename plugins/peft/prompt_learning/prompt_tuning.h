#pragma once

#include <memory>
#include <string>

#include "espalier/base/config_schema.h"
#include "espalier/nn/embedding.h"
#include "prompt_adapter.h"

namespace espalier::prompts {

struct PromptTuningConfig {
  std::int64_t num_virtual_tokens = 20;
  std::string prompt_tuning_init = "random";
  std::vector<std::int64_t> init_token_ids;
  std::string dtype = "float32";
  std::string path;

  static ConfigSchema<PromptTuningConfig> schema();
};

/// Prompt tuning (Lester et al. 2021): learnt vectors before every text, in the place of token
/// embeddings.
class PromptTuning final : public PromptAdapter {
 public:
  using Config = PromptTuningConfig;
  explicit PromptTuning(const PromptTuningConfig& config);

 private:
  void check_config(const peft::PeftReader& read) const override;
  Dimension width(Model& model) const override;
  void extend(Model& model) override;
  at::Tensor new_values(std::uint64_t seed) const override;
  bool starts_from_embeddings() const override { return init_ != "random"; }
  void switch_model(ModelParts& parts, bool enabled) override;
  void add_config(Table& table) const override;

  std::string init_;
  std::vector<std::int64_t> init_ids_;
  nn::Embedding* embedding_ = nullptr;
};

}  // namespace espalier::prompts

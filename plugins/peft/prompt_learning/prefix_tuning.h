#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/base/config_schema.h"
#include "prompt_adapter.h"

namespace espalier::prompts {

struct PrefixTuningConfig {
  std::int64_t num_virtual_tokens = 20;
  std::string init_weights = "random";
  std::string dtype = "float32";
  std::string path;

  static ConfigSchema<PrefixTuningConfig> schema();
};

/// Prefix tuning (Li and Liang 2021): learnt keys and values before those of every text, in every
/// layer. A row of the matrix is [layers, key and value, kv_heads, head_dim].
class PrefixTuning final : public PromptAdapter {
 public:
  using Config = PrefixTuningConfig;
  explicit PrefixTuning(const PrefixTuningConfig& config);

 private:
  void check_config(const peft::PeftReader& read) const override;
  Dimension width(Model& model) const override;
  void extend(Model& model) override;
  void install(Model& model) override;
  at::Tensor new_values(std::uint64_t seed) const override;
  void switch_model(ModelParts& parts, bool enabled) override;
  void add_config(Table& table) const override;

  std::string init_;
};

}  // namespace espalier::prompts

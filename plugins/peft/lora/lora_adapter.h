#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "espalier/sdk/adapter.h"
#include "lora_config.h"
#include "lora_experts.h"
#include "weight_merge.h"

namespace espalier::lora {

/// Low-rank adaptation with the semantics and the files of PEFT, on any model.
class LoraAdapter final : public Adapter {
 public:
  using Config = LoraConfig;
  explicit LoraAdapter(const LoraConfig& config);

  void open(const std::string& folder) override;
  void attach(Model& model) override;
  void initialise(Model& model, std::uint64_t seed) override;
  bool initialises_without_weights() const override;
  bool draws_for_tokens() const override { return settings_.dropout > 0; }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const override { return parameters_; }
  const std::vector<DiskMapping>& mappings() const override { return mappings_; }
  std::vector<ParameterGroupConfig> parameter_groups() const override;
  void begin_pass(const PassPosition& position) override { state_->position = position; }
  void set_enabled(bool enabled) override;
  bool enabled() const override { return state_->enabled; }
  void disable_as_peft() override { state_->enabled = false; }
  void save(const std::string& folder, const std::string& base_model,
            const WholeValue& value) const override;
  void merge(Model& model) override;
  void unmerge(Model& model) override;
  double extract(Model& model, Model& tuned) override;

 private:
  bool adapts_modules() const;
  void check_patterns(const std::vector<Target>& targets) const;
  void add_module(const Target& target);
  void take_base_weights(const std::map<std::string, at::Tensor>& weights);

  LoraSettings settings_;
  std::string folder_;  ///< values come from here; empty: they are new
  std::shared_ptr<AdapterState> state_;
  std::vector<std::shared_ptr<LoraModule>> modules_;
  std::vector<std::shared_ptr<LoraExperts>> experts_;
  std::vector<Replacement> replacements_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<DiskMapping> mappings_;
  std::set<std::string> restored_;  ///< modules whose weight the folder has brought along
  bool transposed_ = false;
};

}  // namespace espalier::lora

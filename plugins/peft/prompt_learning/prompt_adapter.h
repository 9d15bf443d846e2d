#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "espalier/peft/config_reader.h"
#include "espalier/sdk/adapter.h"

namespace espalier::prompts {

/// What prompt and prefix tuning share: one matrix [num_virtual_tokens, width] that is learnt
/// beside a frozen model, "prompt_embeddings" in PEFT's files. One adapter has one model.
class PromptAdapter : public Adapter {
 public:
  void open(const std::string& folder) final;
  void attach(Model& model) final;
  void initialise(Model& model, std::uint64_t seed) final;
  bool initialises_without_weights() const final {
    return !folder_.empty() || !starts_from_embeddings();
  }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const final { return parameters_; }
  const std::vector<DiskMapping>& mappings() const final { return mappings_; }
  void begin_pass(const PassPosition&) final {}
  bool starts_as_identity() const final { return false; }
  void set_enabled(bool enabled) final;
  bool enabled() const final { return enabled_; }
  void save(const std::string& folder, const std::string& base_model,
            const WholeValue& value) const final;
  void merge(Model& model) final;
  void unmerge(Model& model) final;

 protected:
  PromptAdapter(std::string peft_type, std::int64_t tokens, std::string dtype);

  std::int64_t tokens() const { return tokens_; }
  /// Of the model that the adapter is attached to.
  const ModelShape& shape() const { return shape_; }
  const std::shared_ptr<Parameter>& matrix() const { return parameters_.front(); }

  /// Throws Error(kUnsupported) for options that are not built.
  virtual void check_config(const peft::PeftReader& read) const = 0;
  /// The axis that rows of the matrix run along, once the model is known. Throws
  /// Error(kUnsupported) for a model that can't be adapted so.
  virtual Dimension width(Model& model) const = 0;
  /// Adds itself to the model, which is still on the meta device.
  virtual void extend(Model& model) = 0;
  /// After the matrix has a value.
  virtual void install(Model&) {}
  virtual at::Tensor new_values(std::uint64_t seed) const = 0;
  /// Whether new values are rows of the model's embedding.
  virtual bool starts_from_embeddings() const { return false; }
  virtual void switch_model(ModelParts& parts, bool enabled) = 0;
  /// The keys that the kind has beside the common ones.
  virtual void add_config(Table& table) const = 0;

 private:
  std::string peft_type_;
  std::int64_t tokens_;
  std::string dtype_;
  std::string folder_;  ///< values come from here; empty: they are new
  Model* model_ = nullptr;
  ModelShape shape_;
  bool enabled_ = true;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<DiskMapping> mappings_;
};

}  // namespace espalier::prompts

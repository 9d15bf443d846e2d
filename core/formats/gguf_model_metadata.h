#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/value.h"
#include "formats/gguf_writer.h"

namespace espalier::formats {

/// Divisors of the rotary frequencies, [rotary dimensions / 2], stored as a tensor.
struct RopeFactors {
  std::string name;
  std::vector<float> values;
};

/// A model's config.json on its way into the metadata of a GGUF file. What the file's layout can't
/// say is collected as problems, what it says in another way as warnings.
class ModelMetadata {
 public:
  /// `where` names the config in messages. The config has to outlive this object.
  ModelMetadata(const Table& config, std::string architecture, std::string where);

  /// The first of `keys` that is there and not null.
  const Value* find(std::initializer_list<std::string_view> keys) const;
  std::int64_t size(std::initializer_list<std::string_view> keys);
  double number(std::initializer_list<std::string_view> keys, std::optional<double> missing = {});
  bool flag(std::string_view key, bool missing) const;
  /// The share of a head's dimensions that are turned, under any of its names.
  double rotary_share(double missing) const;

  void add_size(std::string_view key, std::int64_t value);
  void add_number(std::string_view key, double value);
  void add_flag(std::string_view key, bool value);
  void add_flags(std::string_view key, const std::vector<bool>& values);

  /// A problem when the key is there with a text that is not among `texts`.
  void expect_text(std::string_view key, std::initializer_list<std::string_view> texts);
  /// A problem when the key is there with another value.
  void expect(std::string_view key, const Value& value);
  void refuse(std::string what, std::string found, std::string expected);
  void warn(std::string what, std::string found, std::string hint);

  /// What all decoders have: sizes, heads, the epsilon of their norms under `epsilon_key`, rotary
  /// embedding with its scaling. `rotary_share` is the share of a head's dimensions that are
  /// turned.
  void describe_decoder(std::string_view epsilon_key, double rotary_share = 1);
  /// Layers of a window of `sliding_window` tokens where `is_sliding` says so.
  template <class IsSliding>
  void expect_layer_types(const IsSliding& is_sliding);
  /// For layouts without windows: models with one are cut to the context in which it changes
  /// nothing.
  void limit_context_to_window();

  std::int64_t layers() const { return layers_; }
  std::int64_t heads() const { return heads_; }
  std::int64_t kv_heads() const { return kv_heads_; }
  std::int64_t head_dim() const { return head_dim_; }
  const std::vector<RopeFactors>& rope_factors() const { return rope_factors_; }
  const std::vector<Problem>& warnings() const { return warnings_; }
  const ProblemList& problems() const { return problems_; }
  GgufMetadata& out() { return out_; }

 private:
  void describe_rotary(double rotary_share);
  void describe_scaling(const Value& scaling, std::int64_t dimensions, double theta);
  void add_llama3_factors(const Value& scaling, std::int64_t dimensions, double theta);
  void add_long_factors(const Value& scaling, std::int64_t dimensions);
  void describe_yarn(const Value& scaling);
  std::string key(std::string_view name) const { return architecture_ + "." + std::string(name); }

  const Table& config_;
  std::string architecture_;
  std::string where_;
  GgufMetadata out_;
  ProblemList problems_;
  std::vector<Problem> warnings_;
  std::vector<RopeFactors> rope_factors_;
  std::int64_t layers_ = 0;
  std::int64_t heads_ = 0;
  std::int64_t kv_heads_ = 0;
  std::int64_t head_dim_ = 0;
  std::int64_t context_ = 0;
};

template <class IsSliding>
void ModelMetadata::expect_layer_types(const IsSliding& is_sliding) {
  const Value* types = find({"layer_types"});
  if (types == nullptr) return;
  for (std::size_t i = 0; i < types->as_array().size(); ++i) {
    const bool sliding = types->as_array()[i] == Value("sliding_attention");
    if (sliding == is_sliding(static_cast<std::int64_t>(i))) continue;
    refuse("the layers have windows in another order than the layout of GGUF",
           "layer " + std::to_string(i) + " is " + types->as_array()[i].as_string(), {});
    return;
  }
}

}  // namespace espalier::formats

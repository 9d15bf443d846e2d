#include "formats/gguf_model_metadata.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "espalier/base/json.h"

namespace espalier::formats {
namespace {

/// A number of a table, or `missing`.
double number_of(const Value& table, std::string_view key, double missing) {
  const Value* value = table.find(key);
  return value != nullptr && value->is_number() ? value->as_float() : missing;
}

}  // namespace

ModelMetadata::ModelMetadata(const Table& config, std::string architecture, std::string where)
    : config_(config), architecture_(std::move(architecture)), where_(std::move(where)) {}

const Value* ModelMetadata::find(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) {
    const Value* value = config_.find(key);
    if (value != nullptr && !value->is_null()) return value;
  }
  return nullptr;
}

std::int64_t ModelMetadata::size(std::initializer_list<std::string_view> keys) {
  const Value* value = find(keys);
  if (value != nullptr && value->is_int() && value->as_int() > 0 && value->as_int() <= INT32_MAX)
    return value->as_int();
  problems_.add({.what = "the config has no usable '" + std::string(*keys.begin()) + "'",
                 .found = value == nullptr ? std::string() : dump_json(*value),
                 .expected = "a whole number from 1 to 2^31 - 1",
                 .where = where_});
  return 1;
}

double ModelMetadata::number(std::initializer_list<std::string_view> keys,
                             std::optional<double> missing) {
  const Value* value = find(keys);
  if (value == nullptr && missing) return *missing;
  if (value != nullptr && value->is_number() && std::isfinite(value->as_float()))
    return value->as_float();
  problems_.add({.what = "the config has no usable '" + std::string(*keys.begin()) + "'",
                 .found = value == nullptr ? std::string() : dump_json(*value),
                 .expected = "a number",
                 .where = where_});
  return 1;
}

bool ModelMetadata::flag(std::string_view key, bool missing) const {
  const Value* value = find({key});
  return value != nullptr && value->is_bool() ? value->as_bool() : missing;
}

double ModelMetadata::rotary_share(double missing) const {
  const Value* share = find({"partial_rotary_factor", "rotary_pct", "rope_pct"});
  if (share != nullptr && share->is_number()) return share->as_float();
  const Value* parameters = find({"rope_parameters"});
  return parameters == nullptr ? missing : number_of(*parameters, "partial_rotary_factor", missing);
}

void ModelMetadata::add_size(std::string_view name, std::int64_t value) {
  out_.add_uint32(key(name), value);
}

void ModelMetadata::add_number(std::string_view name, double value) {
  out_.add_float(key(name), value);
}

void ModelMetadata::add_flag(std::string_view name, bool value) { out_.add_bool(key(name), value); }

void ModelMetadata::add_flags(std::string_view name, const std::vector<bool>& values) {
  out_.add_bools(key(name), values);
}

void ModelMetadata::refuse(std::string what, std::string found, std::string expected) {
  problems_.add({.code = ErrorCode::kUnsupported,
                 .what = std::move(what),
                 .found = std::move(found),
                 .expected = std::move(expected),
                 .where = where_,
                 .hint = "llama.cpp would compute something else; the model can't be exported"});
}

void ModelMetadata::warn(std::string what, std::string found, std::string hint) {
  warnings_.push_back({.what = std::move(what),
                       .found = std::move(found),
                       .where = where_,
                       .hint = std::move(hint)});
}

void ModelMetadata::expect_text(std::string_view name,
                                std::initializer_list<std::string_view> texts) {
  const Value* value = find({name});
  if (value == nullptr) return;
  if (value->is_string() &&
      std::find(texts.begin(), texts.end(), value->as_string()) != texts.end())
    return;
  refuse("the layout of GGUF has another " + std::string(name), dump_json(*value),
         std::string(*texts.begin()));
}

void ModelMetadata::expect(std::string_view name, const Value& expected) {
  const Value* value = find({name});
  if (value == nullptr || *value == expected) return;
  refuse("the layout of GGUF has another " + std::string(name), dump_json(*value),
         dump_json(expected));
}

void ModelMetadata::describe_decoder(std::string_view epsilon_key, double rotary_share) {
  layers_ = size({"num_hidden_layers", "n_layer"});
  const std::int64_t hidden = size({"hidden_size", "n_embd"});
  heads_ = size({"num_attention_heads", "n_head"});
  const Value* kv = find({"num_key_value_heads"});
  kv_heads_ = kv != nullptr ? size({"num_key_value_heads"}) : heads_;
  const bool stated = find({"head_dim"}) != nullptr;
  head_dim_ = stated ? size({"head_dim"}) : std::max<std::int64_t>(hidden / heads_, 1);
  context_ = size({"max_position_embeddings", "n_positions", "n_ctx"});
  const Value* inner = find({"intermediate_size", "n_inner"});
  add_size("block_count", layers_);
  add_size("embedding_length", hidden);
  add_size("feed_forward_length",
           inner != nullptr ? size({"intermediate_size", "n_inner"}) : 4 * hidden);
  add_size("attention.head_count", heads_);
  add_size("attention.head_count_kv", kv_heads_);
  add_size("attention.key_length", head_dim_);
  add_size("attention.value_length", head_dim_);
  add_number(epsilon_key, number({"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon",
                                  "norm_epsilon", "norm_eps"}));
  if (find({"num_experts_per_tok"}) != nullptr) {
    add_size("expert_count", size({"num_local_experts", "num_experts"}));
    add_size("expert_used_count", size({"num_experts_per_tok"}));
  }
  if (rotary_share > 0) describe_rotary(rotary_share);
}

void ModelMetadata::describe_rotary(double rotary_share) {
  const auto dimensions =
      static_cast<std::int64_t>(static_cast<double>(head_dim_) * rotary_share + 1e-6);
  if (dimensions < 2 || dimensions % 2 != 0) {
    refuse("the number of rotary dimensions is odd or too small", std::to_string(dimensions),
           "an even number");
    return;
  }
  add_size("rope.dimension_count", dimensions);
  // Two forms: rope_theta and rope_scaling, or both in rope_parameters, by layer type or not.
  const Value* parameters = find({"rope_parameters"});
  if (parameters != nullptr && parameters->find("full_attention") != nullptr)
    parameters = parameters->find("full_attention");
  double theta = number({"rope_theta", "rotary_emb_base"}, 10000);
  if (parameters != nullptr) theta = number_of(*parameters, "rope_theta", theta);
  add_number("rope.freq_base", theta);
  const Value* scaling = find({"rope_scaling"});
  if (scaling == nullptr) scaling = parameters;
  if (scaling != nullptr) describe_scaling(*scaling, dimensions, theta);
}

void ModelMetadata::describe_scaling(const Value& scaling, std::int64_t dimensions, double theta) {
  const Value* type = scaling.find("rope_type");
  if (type == nullptr) type = scaling.find("type");
  const std::string name = type != nullptr && type->is_string() ? type->as_string() : "default";
  if (name == "default") return;
  if (name == "linear") {
    out_.add_string(key("rope.scaling.type"), "linear");
    add_number("rope.scaling.factor", number_of(scaling, "factor", 1));
  } else if (name == "yarn") {
    describe_yarn(scaling);
  } else if (name == "llama3") {
    add_llama3_factors(scaling, dimensions, theta);
  } else if (name == "longrope" || name == "su") {
    add_long_factors(scaling, dimensions);
  } else {
    refuse("GGUF has no such scaling of the rotary embedding", name,
           "linear, yarn, llama3 or longrope");
  }
}

void ModelMetadata::describe_yarn(const Value& scaling) {
  const double factor = number_of(scaling, "factor", 1);
  const double original =
      number_of(scaling, "original_max_position_embeddings", static_cast<double>(context_));
  const double usual = factor > 1 ? 0.1 * std::log(factor) + 1 : 1;
  const double attention = number_of(scaling, "attention_factor", usual);
  const double mscale = number_of(scaling, "mscale", 1);
  const double mscale_all = number_of(scaling, "mscale_all_dim", mscale == 1 ? 0 : -1);
  const Value* truncate = scaling.find("truncate");
  if (std::abs(attention - usual) > 1e-6 || mscale != 1 || (mscale_all != 0) ||
      (truncate != nullptr && *truncate == Value(false))) {
    refuse("the rotary embedding is scaled by a variant of yarn", dump_json(scaling),
           "the usual attention factor, no mscale, no truncate = false");
    return;
  }
  out_.add_string(key("rope.scaling.type"), "yarn");
  add_number("rope.scaling.factor", factor);
  add_size("rope.scaling.original_context_length", static_cast<std::int64_t>(original));
  constexpr double kUsualFast = 32;
  constexpr double kUsualSlow = 1;
  const double fast = number_of(scaling, "beta_fast", kUsualFast);
  const double slow = number_of(scaling, "beta_slow", kUsualSlow);
  if (fast != kUsualFast) add_number("rope.scaling.yarn_beta_fast", fast);
  if (slow != kUsualSlow) add_number("rope.scaling.yarn_beta_slow", slow);
}

/// Source: transformers' rope_type "llama3".
void ModelMetadata::add_llama3_factors(const Value& scaling, std::int64_t dimensions,
                                       double theta) {
  const double factor = number_of(scaling, "factor", 8);
  const double low = number_of(scaling, "low_freq_factor", 1);
  const double high = number_of(scaling, "high_freq_factor", 4);
  const double original = number_of(scaling, "original_max_position_embeddings", 8192);
  RopeFactors factors{"rope_freqs.weight", {}};
  for (std::int64_t i = 0; i < dimensions; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(dimensions);
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, exponent);
    double divisor = 1;
    if (wavelength > original / low) {
      divisor = factor;
    } else if (wavelength >= original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    factors.values.push_back(static_cast<float>(divisor));
  }
  rope_factors_.push_back(std::move(factors));
}

/// Source: transformers' rope_type "longrope". Up to the original context the short factors count.
void ModelMetadata::add_long_factors(const Value& scaling, std::int64_t dimensions) {
  const Value* stated = find({"original_max_position_embeddings"});
  const double original =
      number_of(scaling, "original_max_position_embeddings",
                stated != nullptr ? stated->as_float() : static_cast<double>(context_));
  const double scale = static_cast<double>(context_) / original;
  const double usual = scale > 1 ? std::sqrt(1 + std::log(scale) / std::log(original)) : 1;
  out_.add_string(key("rope.scaling.type"), "longrope");
  add_size("rope.scaling.original_context_length", static_cast<std::int64_t>(original));
  add_number("rope.scaling.attn_factor", number_of(scaling, "attention_factor", usual));
  for (const std::string name : {"long", "short"}) {
    const Value* list = scaling.find(name + "_factor");
    if (list == nullptr || !list->is_array() || std::ssize(list->as_array()) != dimensions / 2) {
      refuse("the list " + name + "_factor of the rotary scaling does not fit",
             list == nullptr ? "nothing" : dump_json(*list),
             std::to_string(dimensions / 2) + " numbers");
      continue;
    }
    RopeFactors factors{"rope_factors_" + name + ".weight", {}};
    for (const Value& value : list->as_array())
      factors.values.push_back(static_cast<float>(value.as_float()));
    rope_factors_.push_back(std::move(factors));
  }
}

void ModelMetadata::limit_context_to_window() {
  const Value* window = find({"sliding_window"});
  const bool used = flag("use_sliding_window", true);
  if (window != nullptr && used && window->is_int() && window->as_int() < context_) {
    warn("the layout of GGUF has no sliding window for this model",
         "a window of " + std::to_string(window->as_int()) + " tokens",
         "the context length in the file is the window's, up to which nothing differs");
    context_ = std::max<std::int64_t>(window->as_int(), 1);
  }
  add_size("context_length", context_);
}

}  // namespace espalier::formats

#include "espalier/nn/rotary_embedding.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier::nn {
namespace {

const std::vector<std::string> kKindNames = {"default", "linear",   "dynamic",
                                             "yarn",    "longrope", "llama3"};

RotarySpec::Kind kind_from_name(std::string name) {
  if (name == "su") name = "longrope";  // the name in the first Phi-3 files
  const auto found = std::find(kKindNames.begin(), kKindNames.end(), name);
  if (found == kKindNames.end()) {
    throw_bad_input("unknown kind of rotary scaling", name, "one of " + join_names(kKindNames),
                    "config.json: rope_scaling.rope_type", did_you_mean(name, kKindNames));
  }
  return static_cast<RotarySpec::Kind>(found - kKindNames.begin());
}

/// Reads keys of one table; null counts as absent, as in transformers.
class ScalingReader {
 public:
  explicit ScalingReader(const Value* table) : table_(table) {}

  const Value* find(const char* key) const {
    const Value* value = table_ == nullptr ? nullptr : table_->find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  void read(const char* key, double& target) const {
    if (const Value* value = find(key)) target = value->as_float();
  }
  void read(const char* key, std::int64_t& target) const {
    if (const Value* value = find(key)) target = static_cast<std::int64_t>(value->as_float());
  }
  void read(const char* key, std::vector<double>& target) const {
    const Value* value = find(key);
    if (value == nullptr) return;
    target.clear();
    for (const Value& item : value->as_array()) target.push_back(item.as_float());
  }
  void require(const char* key, const char* kind) const {
    if (find(key) != nullptr) return;
    throw_bad_input(std::string("rotary scaling '") + kind + "' needs '" + key + "'", {},
                    "a number", "config.json: rope_scaling");
  }

 private:
  const Value* table_;
};

/// theta^(2i / dim), float32, as transformers computes it.
at::Tensor wavelength_factors(double theta, std::int64_t dim) {
  const at::Tensor exponent = at::arange(0, dim, 2, at::TensorOptions().dtype(at::kLong))
                                  .to(at::kFloat)
                                  .div_(static_cast<double>(dim));
  return at::pow(theta, exponent);
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// Peng et al. 2023, "YaRN": high frequencies keep their length, low ones are interpolated, a ramp
/// in between.
at::Tensor yarn_frequencies(const RotarySpec& spec, double original) {
  const double dim = static_cast<double>(spec.dim);
  const auto correction = [&](double rotations) {
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(spec.theta));
  };
  double low = correction(spec.beta_fast);
  double high = correction(spec.beta_slow);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;  // no division by zero
  const at::Tensor wave = wavelength_factors(spec.theta, spec.dim);
  const at::Tensor ramp = at::arange(spec.dim / 2, at::TensorOptions().dtype(at::kFloat))
                              .sub(low)
                              .div(high - low)
                              .clamp(0, 1);
  const at::Tensor keep = 1 - ramp;
  return at::reciprocal(wave * spec.factor) * (1 - keep) + at::reciprocal(wave) * keep;
}

/// Llama 3.1: wavelengths beyond the low-frequency limit are stretched, those below the high one
/// kept, with a smooth step in between.
at::Tensor llama3_frequencies(const RotarySpec& spec, double original) {
  const at::Tensor frequency = at::reciprocal(wavelength_factors(spec.theta, spec.dim));
  const at::Tensor wavelength = at::reciprocal(frequency) * (2 * std::numbers::pi);
  const at::Tensor is_low = wavelength.gt(original / spec.low_freq_factor);
  const at::Tensor is_high = wavelength.lt(original / spec.high_freq_factor);
  const at::Tensor smooth = (at::reciprocal(wavelength) * original - spec.low_freq_factor) /
                            (spec.high_freq_factor - spec.low_freq_factor);
  const at::Tensor stretched = at::where(is_low, frequency / spec.factor, frequency);
  const at::Tensor blended = (1 - smooth) * stretched / spec.factor + smooth * stretched;
  return at::where(at::logical_and(at::logical_not(is_low), at::logical_not(is_high)), blended,
                   stretched);
}

/// Inverse frequencies [dim / 2] for a text of `length` tokens.
at::Tensor frequencies(const RotarySpec& spec, double length) {
  const double maximum = static_cast<double>(spec.max_position_embeddings);
  const double original = spec.original_max_position_embeddings > 0
                              ? static_cast<double>(spec.original_max_position_embeddings)
                              : maximum;
  switch (spec.kind) {
    case RotarySpec::Kind::kDefault:
      return at::reciprocal(wavelength_factors(spec.theta, spec.dim));
    case RotarySpec::Kind::kLinear:
      return at::reciprocal(wavelength_factors(spec.theta, spec.dim)) / spec.factor;
    case RotarySpec::Kind::kDynamic: {
      const double dim = static_cast<double>(spec.dim);
      const double stretch = spec.factor * std::max(length, maximum) / maximum - (spec.factor - 1);
      return at::reciprocal(
          wavelength_factors(spec.theta * std::pow(stretch, dim / (dim - 2)), spec.dim));
    }
    case RotarySpec::Kind::kYarn: return yarn_frequencies(spec, original);
    case RotarySpec::Kind::kLongrope: {
      const std::vector<double>& factors = length > original ? spec.long_factor : spec.short_factor;
      const at::Tensor extension =
          at::tensor(factors, at::TensorOptions().dtype(at::kDouble)).to(at::kFloat);
      return at::reciprocal(extension * wavelength_factors(spec.theta, spec.dim));
    }
    case RotarySpec::Kind::kLlama3: return llama3_frequencies(spec, original);
  }
  return {};
}

/// Factor on cos and sin.
double attention_scaling(const RotarySpec& spec) {
  if (spec.kind != RotarySpec::Kind::kYarn && spec.kind != RotarySpec::Kind::kLongrope) return 1.0;
  if (spec.attention_factor != 0) return spec.attention_factor;
  if (spec.kind == RotarySpec::Kind::kYarn) {
    if (spec.mscale == 0 || spec.mscale_all_dim == 0) return yarn_scale(spec.factor, 1.0);
    return yarn_scale(spec.factor, spec.mscale) / yarn_scale(spec.factor, spec.mscale_all_dim);
  }
  if (spec.factor <= 1) return 1.0;
  return std::sqrt(1 + std::log(spec.factor) /
                           std::log(static_cast<double>(spec.original_max_position_embeddings)));
}

void read_scaling(RotarySpec& spec, const ScalingReader& scaling) {
  scaling.read("factor", spec.factor);
  scaling.read("original_max_position_embeddings", spec.original_max_position_embeddings);
  scaling.read("low_freq_factor", spec.low_freq_factor);
  scaling.read("high_freq_factor", spec.high_freq_factor);
  scaling.read("beta_fast", spec.beta_fast);
  scaling.read("beta_slow", spec.beta_slow);
  scaling.read("mscale", spec.mscale);
  scaling.read("mscale_all_dim", spec.mscale_all_dim);
  scaling.read("attention_factor", spec.attention_factor);
  scaling.read("short_factor", spec.short_factor);
  scaling.read("long_factor", spec.long_factor);
  if (const Value* truncate = scaling.find("truncate")) spec.truncate = truncate->as_bool();
}

void check_scaling(const RotarySpec& spec, const ScalingReader& scaling) {
  const std::string& name = kKindNames[static_cast<std::size_t>(spec.kind)];
  switch (spec.kind) {
    case RotarySpec::Kind::kDefault:
    case RotarySpec::Kind::kYarn: return;
    case RotarySpec::Kind::kLongrope:
      scaling.require("short_factor", name.c_str());
      scaling.require("long_factor", name.c_str());
      break;
    case RotarySpec::Kind::kLlama3:
      scaling.require("low_freq_factor", name.c_str());
      scaling.require("high_freq_factor", name.c_str());
      [[fallthrough]];
    default: scaling.require("factor", name.c_str());
  }
  for (const auto* factors : {&spec.short_factor, &spec.long_factor}) {
    if (spec.kind == RotarySpec::Kind::kLongrope &&
        static_cast<std::int64_t>(factors->size()) != spec.dim / 2) {
      throw_bad_input("a list of rotary factors has the wrong length",
                      std::to_string(factors->size()), std::to_string(spec.dim / 2) + " numbers",
                      "config.json: rope_scaling");
    }
  }
}

}  // namespace

RotarySpec rotary_spec_from_config(const Value& config, std::int64_t head_dim,
                                   const RotaryDefaults& defaults) {
  const ScalingReader top(&config);
  const Value* table = top.find("rope_scaling");
  if (table == nullptr || !table->is_table() || table->as_table().empty())
    table = top.find("rope_parameters");
  const ScalingReader scaling(table);

  RotarySpec spec;
  spec.theta = defaults.theta;
  top.read("rope_theta", spec.theta);
  scaling.read("rope_theta", spec.theta);
  double partial = defaults.partial.value_or(1.0);
  top.read("partial_rotary_factor", partial);
  scaling.read("partial_rotary_factor", partial);
  if (!defaults.partial && partial != 1.0) {
    throw_bad_input("this family rotates whole heads", std::to_string(partial), "1.0",
                    "config.json: partial_rotary_factor");
  }
  spec.dim = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  if (spec.dim <= 0 || spec.dim > head_dim || spec.dim % 2 != 0) {
    throw_bad_input("the rotated channels of a head can't be paired", std::to_string(spec.dim),
                    "an even number, 2 to " + std::to_string(head_dim),
                    "config.json: partial_rotary_factor, head_dim");
  }
  top.read("max_position_embeddings", spec.max_position_embeddings);

  const Value* kind = scaling.find("rope_type");
  if (kind == nullptr) kind = scaling.find("type");
  if (kind != nullptr) spec.kind = kind_from_name(kind->as_string());
  read_scaling(spec, scaling);
  top.read("original_max_position_embeddings", spec.original_max_position_embeddings);
  if (spec.original_max_position_embeddings == 0)
    spec.original_max_position_embeddings = spec.max_position_embeddings;
  const bool ratio_is_factor =
      spec.kind == RotarySpec::Kind::kYarn || spec.kind == RotarySpec::Kind::kLongrope;
  if (ratio_is_factor && scaling.find("factor") == nullptr &&
      spec.original_max_position_embeddings > 0) {
    spec.factor = static_cast<double>(spec.max_position_embeddings) /
                  static_cast<double>(spec.original_max_position_embeddings);
  }
  check_scaling(spec, scaling);
  return spec;
}

RotarySpec rotary_spec_of_layer_type(const Value& config, std::int64_t head_dim,
                                     const char* layer_type, double theta, const Value* scaling) {
  Table own;
  const Value* all = config.find("rope_parameters");
  const Value* given = all == nullptr ? nullptr : all->find(layer_type);
  if (given != nullptr && given->is_table()) own = given->as_table();
  if (scaling != nullptr && scaling->is_table()) {
    for (const auto& [key, value] : scaling->as_table()) own.set(key, value);
  }
  Table flat;
  flat.set("rope_parameters", std::move(own));
  for (const char* key : {"max_position_embeddings", "partial_rotary_factor"}) {
    if (const Value* value = config.find(key)) flat.set(key, *value);
  }
  return rotary_spec_from_config(Value(std::move(flat)), head_dim, {theta, std::nullopt});
}

RotaryTables rotary_tables(const RotarySpec& spec, const at::Tensor& position_ids,
                           const TokenLayout& layout) {
  const at::Tensor positions = position_ids.to(at::kFloat).unsqueeze(-1);  // [tokens, 1]
  at::Tensor angles;                                                       // [tokens, dim / 2]
  if (!spec.depends_on_length() || layout.documents() == 0) {
    angles = positions * frequencies(spec, 0).to(positions.device()).unsqueeze(0);
  } else {
    std::vector<at::Tensor> parts;
    for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d) {
      const std::int64_t begin = layout.document_starts[d];
      const at::Tensor part = positions.narrow(0, begin, layout.document_starts[d + 1] - begin);
      const double length = part.max().item<double>() + 1;
      parts.push_back(part * frequencies(spec, length).to(part.device()).unsqueeze(0));
    }
    angles = at::cat(parts);
  }
  const double scale = attention_scaling(spec);
  return {angles.cos().mul_(scale), angles.sin().mul_(scale)};
}

}  // namespace espalier::nn

#include "espalier/nn/decoder_config.h"

#include "espalier/io/config_reader.h"

namespace espalier::nn {
namespace {

/// A size that may be null or missing: null is the derived value, missing the default, which is
/// derived too where it is 0.
std::int64_t size_or(const ConfigReader& read, const char* key, std::int64_t missing,
                     std::int64_t derived) {
  if (read.has(key)) return read.size(key);
  return read.is_null(key) || missing == 0 ? derived : missing;
}

void read_heads(DecoderSpec& spec, const ConfigReader& read, const ConfigDefaults& defaults) {
  spec.num_attention_heads = read.size("num_attention_heads");
  spec.num_key_value_heads =
      size_or(read, "num_key_value_heads", defaults.num_key_value_heads, spec.num_attention_heads);
  read.require(spec.num_attention_heads % spec.num_key_value_heads == 0, "num_key_value_heads",
               "a divisor of num_attention_heads");
  const bool derived =
      !read.has("head_dim") && (read.is_null("head_dim") || defaults.head_dim == 0);
  if (derived) {
    read.require(spec.hidden_size % spec.num_attention_heads == 0, "num_attention_heads",
                 "a divisor of hidden_size");
  }
  spec.head_dim =
      size_or(read, "head_dim", defaults.head_dim, spec.hidden_size / spec.num_attention_heads);
}

}  // namespace

DecoderSpec decoder_spec_from_config(const Value& config, const ConfigDefaults& defaults) {
  const ConfigReader read(config);
  DecoderSpec spec;
  spec.vocab_size = read.size("vocab_size");
  spec.hidden_size = read.size("hidden_size");
  spec.intermediate_size = read.size("intermediate_size");
  spec.num_layers = read.size("num_hidden_layers");
  read_heads(spec, read, defaults);
  spec.max_positions = read.size("max_position_embeddings", defaults.max_position_embeddings);
  spec.padding_id = read.padding_id(spec.vocab_size);
  spec.norm.eps = read.number(defaults.norm_eps_key, defaults.norm_eps);
  spec.rotary = {rotary_spec_from_config(config, spec.head_dim, defaults.rotary)};
  spec.activation =
      ops::activation_from_name(read.text(defaults.activation_key, defaults.activation));
  spec.tie_word_embeddings = read.flag("tie_word_embeddings", defaults.tie_word_embeddings);
  spec.initializer_range = read.number("initializer_range", 0.02);
  spec.ignored_on_disk = {"model.layers.*.self_attn.rotary_emb.inv_freq"};
  return spec;
}

void read_attention_bias(DecoderSpec& spec, const Value& config) {
  spec.query_key_value_bias = ConfigReader(config).flag("attention_bias", false);
  spec.attention_output_bias = spec.query_key_value_bias;
}

std::optional<std::int64_t> sliding_window_from_config(const Value& config,
                                                       std::optional<std::int64_t> fallback) {
  const ConfigReader read(config);
  if (read.has("sliding_window")) return read.size("sliding_window");
  return read.is_null("sliding_window") ? std::nullopt : fallback;
}

std::vector<bool> sliding_layers_from_config(
    const Value& config, std::int64_t num_layers,
    const std::function<bool(std::int64_t layer)>& pattern) {
  const ConfigReader read(config);
  std::vector<bool> slides;
  const Value* types = read.find("layer_types");
  if (types == nullptr) {
    for (std::int64_t layer = 0; layer < num_layers; ++layer) slides.push_back(pattern(layer));
    return slides;
  }
  read.require(
      types->is_array() && static_cast<std::int64_t>(types->as_array().size()) == num_layers,
      "layer_types", "one entry for each of num_hidden_layers");
  for (const Value& type : types->as_array()) {
    const std::string name = type.is_string() ? type.as_string() : std::string();
    read.require(name == "sliding_attention" || name == "full_attention", "layer_types",
                 "'sliding_attention' or 'full_attention' in each entry");
    slides.push_back(name == "sliding_attention");
  }
  return slides;
}

void set_sliding_windows(DecoderSpec& spec, const Value& config, const std::vector<bool>& slides,
                         std::optional<std::int64_t> window) {
  if (spec.layers.empty()) spec.layers.assign(slides.size(), spec.layer(0));
  for (std::size_t layer = 0; layer < slides.size(); ++layer) {
    if (!slides[layer]) continue;
    ConfigReader(config).require(window.has_value(), "sliding_window",
                                 "a window, since some layers are 'sliding_attention'");
    spec.layers[layer].sliding_window = window;
  }
}

}  // namespace espalier::nn

#include "espalier/nn/decoder_config.h"

#include "espalier/io/config_reader.h"

namespace espalier::nn {

DecoderSpec decoder_spec_from_config(const Value& config) {
  const ConfigReader read(config);
  DecoderSpec spec;
  spec.vocab_size = read.size("vocab_size");
  spec.hidden_size = read.size("hidden_size");
  spec.intermediate_size = read.size("intermediate_size");
  spec.num_layers = read.size("num_hidden_layers");
  spec.num_attention_heads = read.size("num_attention_heads");
  spec.num_key_value_heads = read.size("num_key_value_heads", spec.num_attention_heads);
  read.require(spec.num_attention_heads % spec.num_key_value_heads == 0, "num_key_value_heads",
               "a divisor of num_attention_heads");
  if (!read.has("head_dim")) {
    read.require(spec.hidden_size % spec.num_attention_heads == 0, "num_attention_heads",
                 "a divisor of hidden_size");
  }
  spec.head_dim = read.size("head_dim", spec.hidden_size / spec.num_attention_heads);
  spec.max_positions = read.size("max_position_embeddings", 2048);
  spec.norm.eps = read.number("rms_norm_eps", 1e-6);
  spec.rotary = rotary_spec_from_config(config, spec.head_dim);
  spec.activation = ops::activation_from_name(read.text("hidden_act", "silu"));
  spec.tie_word_embeddings = read.flag("tie_word_embeddings", false);
  spec.initializer_range = read.number("initializer_range", 0.02);
  spec.ignored_on_disk = {"model.layers.*.self_attn.rotary_emb.inv_freq"};
  return spec;
}

std::vector<std::optional<std::int64_t>> sliding_windows_from_config(const Value& config,
                                                                     std::int64_t num_layers,
                                                                     std::int64_t first_layer) {
  const ConfigReader read(config);
  std::vector<std::optional<std::int64_t>> windows(static_cast<std::size_t>(num_layers));
  if (!read.has("sliding_window")) return windows;
  const std::int64_t window = read.size("sliding_window");
  const Value* types = read.find("layer_types");
  if (types != nullptr) {
    read.require(types->is_array() && types->as_array().size() >= windows.size(), "layer_types",
                 "one entry a layer");
  }
  for (std::size_t layer = 0; layer < windows.size(); ++layer) {
    const bool slides = types != nullptr
                            ? types->as_array()[layer].as_string() == "sliding_attention"
                            : static_cast<std::int64_t>(layer) >= first_layer;
    if (slides) windows[layer] = window;
  }
  return windows;
}

}  // namespace espalier::nn

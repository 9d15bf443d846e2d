#pragma once

#include <functional>

#include "espalier/base/value.h"
#include "espalier/nn/decoder_spec.h"

namespace espalier::nn {

/// What a family takes where config.json has no such key, and the names of its keys: those of the
/// family's config class in transformers. A key that is there with null is not missing.
struct ConfigDefaults {
  std::int64_t num_key_value_heads = 0;  ///< 0: num_attention_heads
  std::int64_t head_dim = 0;             ///< 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 2048;
  const char* norm_eps_key = "rms_norm_eps";
  double norm_eps = 1e-6;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  bool tie_word_embeddings = false;
  RotaryDefaults rotary;
};

/// The keys that Llama-like families share in config.json (hidden_size, num_hidden_layers,
/// rms_norm_eps, rope_*, ...). A family starts from this and sets what it does otherwise. Throws
/// Error(kBadInput) naming the key.
ESPALIER_API DecoderSpec decoder_spec_from_config(const Value& config,
                                                  const ConfigDefaults& defaults = {});

/// `attention_bias` on q, k, v and on the output projection.
ESPALIER_API void read_attention_bias(DecoderSpec& spec, const Value& config);

/// `sliding_window` of config.json, `fallback` where the key is missing; null: none.
ESPALIER_API std::optional<std::int64_t> sliding_window_from_config(
    const Value& config, std::optional<std::int64_t> fallback = std::nullopt);

/// Which layers slide: by `layer_types` where the config has them, otherwise by `pattern`, layer by
/// layer. Throws Error(kBadInput) for other types than "sliding_attention" and "full_attention".
ESPALIER_API std::vector<bool> sliding_layers_from_config(
    const Value& config, std::int64_t num_layers,
    const std::function<bool(std::int64_t layer)>& pattern);

/// `window` in the layers that slide. Throws Error(kBadInput) when one slides and there is no
/// window.
ESPALIER_API void set_sliding_windows(DecoderSpec& spec, const Value& config,
                                      const std::vector<bool>& slides,
                                      std::optional<std::int64_t> window);

}  // namespace espalier::nn

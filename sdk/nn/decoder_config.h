#pragma once

#include "espalier/base/value.h"
#include "espalier/nn/decoder_spec.h"

namespace espalier::nn {

/// The keys that Llama-like families share in config.json (hidden_size, num_hidden_layers,
/// rms_norm_eps, rope_*, ...). A family starts from this and sets what it does otherwise. Throws
/// Error(kBadInput) naming the key.
ESPALIER_API DecoderSpec decoder_spec_from_config(const Value& config);

/// One window a layer: by `layer_types` where the config has them, otherwise on layers from
/// `first_layer` on.
ESPALIER_API std::vector<std::optional<std::int64_t>> sliding_windows_from_config(
    const Value& config, std::int64_t num_layers, std::int64_t first_layer);

}  // namespace espalier::nn

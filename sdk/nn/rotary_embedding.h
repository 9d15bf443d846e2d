#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"
#include "espalier/sdk/model.h"

namespace espalier::nn {

/// Rotary position embedding with all scalings of published configs. Field names are those of
/// `rope_scaling`.
struct ESPALIER_API RotarySpec {
  enum class Kind { kDefault, kLinear, kDynamic, kYarn, kLongrope, kLlama3 };

  Kind kind = Kind::kDefault;
  std::int64_t dim = 0;  ///< rotated channels of a head
  double theta = 10000.0;
  bool interleaved = false;
  double factor = 1.0;
  std::int64_t max_position_embeddings = 0;
  std::int64_t original_max_position_embeddings = 0;  ///< 0: max_position_embeddings
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 0.0;
  double mscale_all_dim = 0.0;
  double attention_factor = 0.0;  ///< 0: by the rule of the kind
  bool truncate = true;
  std::vector<double> short_factor;
  std::vector<double> long_factor;

  /// Whether frequencies depend on the length of the text, so that keys of a cache would be stale.
  bool depends_on_length() const { return kind == Kind::kDynamic || kind == Kind::kLongrope; }
};

/// What a family takes where config.json says nothing.
struct RotaryDefaults {
  double theta = 10000.0;
  /// Share of a head's channels that is rotated; none: the family rotates whole heads, and another
  /// `partial_rotary_factor` is an error.
  std::optional<double> partial;
};

/// Reads `rope_theta` + `rope_scaling` (with `rope_type` or the older `type`) or the newer
/// `rope_parameters` of a config.json. Throws Error(kBadInput) for an unknown kind or a missing
/// key.
ESPALIER_API RotarySpec rotary_spec_from_config(const Value& config, std::int64_t head_dim,
                                                const RotaryDefaults& defaults = {});

/// For families with one rotary embedding a layer type: reads `rope_parameters.<layer_type>`, with
/// `theta` where there is none. `scaling` (may be null) is laid over it: the older form's
/// `rope_scaling`.
ESPALIER_API RotarySpec rotary_spec_of_layer_type(const Value& config, std::int64_t head_dim,
                                                  const char* layer_type, double theta,
                                                  const Value* scaling);

/// Tables for flat tokens at `position_ids` [tokens] int64. Frequencies that depend on the length
/// take each document's own.
ESPALIER_API RotaryTables rotary_tables(const RotarySpec& spec, const at::Tensor& position_ids,
                                        const TokenLayout& layout);

}  // namespace espalier::nn

#pragma once

#include <string>

#include "espalier/base/value.h"

namespace espalier::text {

/// Special tokens of a model folder by their role ("bos_token" to "<s>", ...), from
/// tokenizer_config.json and then special_tokens_map.json; a token that is null or missing in both
/// has no entry.
Table read_special_tokens(const std::string& folder);

/// A JSON file of the folder; null when there is none.
Value read_optional_json(const std::string& path);

}  // namespace espalier::text

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "espalier/base/value.h"

namespace espalier::formats {

/// What `tokenizer.ggml.pre` stands for, in the terms of tokenizer.json. All of these are
/// byte-level.
struct PreTokenizerLayout {
  Value normalizer;  ///< null for none
  Value pre_tokenizer;
  bool ignore_merges = false;
  /// Whether the model family begins texts with BOS when the file does not say.
  bool adds_bos = false;
};

/// Empty for a name that is not known.
std::optional<PreTokenizerLayout> find_pre_tokenizer(std::string_view name);

/// The name for the normalizer, pre-tokenizer and merge rule of a tokenizer.json; empty when none
/// of those that are known does the same.
std::optional<std::string_view> name_pre_tokenizer(const Value& normalizer,
                                                   const Value& pre_tokenizer, bool ignore_merges);

}  // namespace espalier::formats

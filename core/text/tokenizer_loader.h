#pragma once

#include <memory>
#include <string>

#include "espalier/sdk/tokenizer.h"

namespace espalier::text {

/// The tokenizer of a Hugging Face folder: tokenizer.json, and for the special tokens
/// tokenizer_config.json and special_tokens_map.json where they are. Throws Error that names file
/// and key.
/// Whether `folder` holds a file that load_tokenizer() can make a tokenizer of.
bool has_tokenizer(const std::string& folder);

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& folder);

}  // namespace espalier::text

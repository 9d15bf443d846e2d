#pragma once

#include <map>
#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/gguf.h"

namespace espalier::formats {

struct TokenizerImport {
  /// Content by file name; empty when the file's tokenizer can't be translated.
  std::map<std::string, std::string> files;
  std::vector<Problem> warnings;
};

/// Translates a byte-level BPE vocabulary (`tokenizer.ggml.model` "gpt2") to tokenizer.json,
/// tokenizer_config.json, special_tokens_map.json and chat_template.jinja. Other kinds are a
/// warning. Error(kBadInput) for a vocabulary that contradicts itself.
TokenizerImport map_gguf_tokenizer(const GgufFile& file);

}  // namespace espalier::formats

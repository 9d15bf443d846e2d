#pragma once

#include <memory>

#include "text/json_node.h"
#include "text/pre_tokenized_text.h"

namespace espalier::text {

/// Cuts a text into the words that the model sees. Immutable; thread safe.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;

  virtual void pre_tokenize(PreTokenizedText& text) const = 0;

  /// Whether the last step translates bytes to the byte-level alphabet.
  virtual bool ends_byte_level() const { return false; }
  /// Tells a pre-tokenizer that ends_byte_level() to leave the translation to the model, which
  /// saves a copy of the text.
  virtual void defer_bytes() {}
};

/// From the section `pre_tokenizer` of tokenizer.json.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& section);

std::unique_ptr<PreTokenizer> make_pre_tokenizer_sequence(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_byte_level_pre_tokenizer(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_split(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_digits(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_punctuation(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_whitespace(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_whitespace_split(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_bert_pre_tokenizer(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_char_delimiter_split(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_fixed_length(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_unicode_scripts(const JsonNode& section);
std::unique_ptr<PreTokenizer> make_metaspace(const JsonNode& section);

}  // namespace espalier::text

#pragma once

#include <memory>

#include "text/aligned_text.h"
#include "text/json_node.h"

namespace espalier::text {

/// Rewrites a text before it is split. Immutable; thread safe.
class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;

  virtual void normalize(AlignedText& text) const = 0;
};

/// From the section `normalizer` of tokenizer.json.
std::unique_ptr<Normalizer> make_normalizer(const JsonNode& section);

std::unique_ptr<Normalizer> make_normalizer_sequence(const JsonNode& section);
std::unique_ptr<Normalizer> make_nfc(const JsonNode& section);
std::unique_ptr<Normalizer> make_nfd(const JsonNode& section);
std::unique_ptr<Normalizer> make_nfkc(const JsonNode& section);
std::unique_ptr<Normalizer> make_nfkd(const JsonNode& section);
std::unique_ptr<Normalizer> make_replace_normalizer(const JsonNode& section);
std::unique_ptr<Normalizer> make_prepend(const JsonNode& section);
std::unique_ptr<Normalizer> make_lowercase(const JsonNode& section);
std::unique_ptr<Normalizer> make_strip_normalizer(const JsonNode& section);
std::unique_ptr<Normalizer> make_strip_accents(const JsonNode& section);
std::unique_ptr<Normalizer> make_nmt(const JsonNode& section);
std::unique_ptr<Normalizer> make_byte_level_normalizer(const JsonNode& section);
std::unique_ptr<Normalizer> make_bert_normalizer(const JsonNode& section);
std::unique_ptr<Normalizer> make_precompiled(const JsonNode& section);

}  // namespace espalier::text

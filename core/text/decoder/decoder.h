#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/json_node.h"

namespace espalier::text {

/// Turns tokens back into text. Immutable; thread safe.
class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;

  /// The result is the concatenation of what comes back.
  virtual std::vector<std::string> decode(std::vector<std::string> tokens) const = 0;
};

/// From the section `decoder` of tokenizer.json.
std::unique_ptr<Decoder> make_decoder(const JsonNode& section);

std::unique_ptr<Decoder> make_decoder_sequence(const JsonNode& section);
std::unique_ptr<Decoder> make_byte_level_decoder(const JsonNode& section);
std::unique_ptr<Decoder> make_replace_decoder(const JsonNode& section);
std::unique_ptr<Decoder> make_byte_fallback(const JsonNode& section);
std::unique_ptr<Decoder> make_fuse(const JsonNode& section);
std::unique_ptr<Decoder> make_strip_decoder(const JsonNode& section);
std::unique_ptr<Decoder> make_metaspace_decoder(const JsonNode& section);
std::unique_ptr<Decoder> make_word_piece_decoder(const JsonNode& section);
std::unique_ptr<Decoder> make_bpe_decoder(const JsonNode& section);
std::unique_ptr<Decoder> make_ctc_decoder(const JsonNode& section);

}  // namespace espalier::text

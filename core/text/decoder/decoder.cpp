#include "text/decoder/decoder.h"

#include "text/component_type.h"

namespace espalier::text {
namespace {

constexpr ComponentType<Decoder> kTypes[] = {
    {"Sequence", make_decoder_sequence},
    {"ByteLevel", make_byte_level_decoder},
    {"Replace", make_replace_decoder},
    {"ByteFallback", make_byte_fallback},
    {"Fuse", make_fuse},
    {"Strip", make_strip_decoder},
    {"Metaspace", make_metaspace_decoder},
    {"WordPiece", make_word_piece_decoder},
    {"BPEDecoder", make_bpe_decoder},
    {"CTC", make_ctc_decoder},
};

class DecoderSequence final : public Decoder {
 public:
  explicit DecoderSequence(const JsonNode& section) {
    for (const JsonNode& part : section.at("decoders").items())
      parts_.push_back(make_decoder(part));
  }
  std::vector<std::string> decode(std::vector<std::string> tokens) const override {
    for (const auto& part : parts_) tokens = part->decode(std::move(tokens));
    return tokens;
  }

 private:
  std::vector<std::unique_ptr<Decoder>> parts_;
};

}  // namespace

std::unique_ptr<Decoder> make_decoder(const JsonNode& section) {
  return make_component<Decoder>(kTypes, "decoder", section);
}

std::unique_ptr<Decoder> make_decoder_sequence(const JsonNode& section) {
  return std::make_unique<DecoderSequence>(section);
}

}  // namespace espalier::text

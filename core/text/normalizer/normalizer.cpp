#include "text/normalizer/normalizer.h"

#include "text/component_type.h"

namespace espalier::text {
namespace {

constexpr ComponentType<Normalizer> kTypes[] = {
    {"Sequence", make_normalizer_sequence},
    {"NFC", make_nfc},
    {"NFD", make_nfd},
    {"NFKC", make_nfkc},
    {"NFKD", make_nfkd},
    {"Replace", make_replace_normalizer},
    {"Prepend", make_prepend},
    {"Lowercase", make_lowercase},
    {"Strip", make_strip_normalizer},
    {"StripAccents", make_strip_accents},
    {"Nmt", make_nmt},
    {"ByteLevel", make_byte_level_normalizer},
    {"BertNormalizer", make_bert_normalizer},
    {"Precompiled", make_precompiled},
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(const JsonNode& section) {
    for (const JsonNode& part : section.at("normalizers").items())
      parts_.push_back(make_normalizer(part));
  }
  void normalize(AlignedText& text) const override {
    for (const auto& part : parts_) part->normalize(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonNode& section) {
  return make_component<Normalizer>(kTypes, "normalizer", section);
}

std::unique_ptr<Normalizer> make_normalizer_sequence(const JsonNode& section) {
  return std::make_unique<NormalizerSequence>(section);
}

}  // namespace espalier::text

// The clean-up of BERT's tokenizer: controls go, white space becomes a space, ideographs stand
// alone, accents and capitals go.
#include "text/normalizer/character_changes.h"
#include "text/normalizer/normalizer.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const JsonNode& section)
      : clean_text_(section.at("clean_text").as_bool()),
        handle_chinese_chars_(section.at("handle_chinese_chars").as_bool()),
        lowercase_(section.at("lowercase").as_bool()),
        strip_accents_(section.bool_or("strip_accents", lowercase_)) {}

  void normalize(AlignedText& text) const override {
    const CharClassTable& table = CharClassTable::get();
    if (clean_text_) {
      filter_characters(text, [&](char32_t c) { return (table[c] & kBertControl) == 0; });
      map_characters(text, [&](char32_t c) { return (table[c] & kSpace) != 0 ? U' ' : c; });
    }
    if (handle_chinese_chars_) set_ideographs_apart(text);
    if (strip_accents_) {
      decompose_characters(text);
      filter_characters(text, [&](char32_t c) { return (table[c] & kBertAccent) == 0; });
    }
    if (lowercase_) to_lowercase(text);
  }

 private:
  static void set_ideographs_apart(AlignedText& text) {
    std::vector<CharChange> changes;
    bool different = false;
    const std::string_view view = text.view();
    changes.reserve(view.size());
    for (std::size_t at = 0; at < view.size();) {
      const char32_t point = next_code_point(view, at);
      if (is_ideograph(point)) {
        different = true;
        changes.insert(changes.end(), {{U' ', 0}, {point, 1}, {U' ', 1}});
      } else {
        changes.push_back({point, 0});
      }
    }
    if (different) text.transform(changes);
  }

  bool clean_text_;
  bool handle_chinese_chars_;
  bool lowercase_;
  bool strip_accents_;
};

}  // namespace

std::unique_ptr<Normalizer> make_bert_normalizer(const JsonNode& section) {
  return std::make_unique<BertNormalizer>(section);
}

}  // namespace espalier::text

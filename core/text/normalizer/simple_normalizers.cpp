#include <algorithm>

#include "espalier/base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/normalizer/character_changes.h"
#include "text/normalizer/normalizer.h"
#include "text/pattern/pattern_section.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

class Replace final : public Normalizer {
 public:
  explicit Replace(const JsonNode& section)
      : pattern_(read_pattern(section)), content_(section.at("content").as_string()) {}
  void normalize(AlignedText& text) const override { text.replace(*pattern_, content_); }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(const JsonNode& section) : prefix_(section.at("prepend").as_string()) {}
  void normalize(AlignedText& text) const override { text.prepend(prefix_); }

 private:
  std::string prefix_;
};

class Lowercase final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override { to_lowercase(text); }
};

bool is_space(char32_t point) { return (CharClassTable::get()[point] & kSpace) != 0; }

class Strip final : public Normalizer {
 public:
  explicit Strip(const JsonNode& section)
      : left_(section.at("strip_left").as_bool()), right_(section.at("strip_right").as_bool()) {}

  void normalize(AlignedText& text) const override {
    const std::u32string points = to_code_points(text.view());
    std::size_t begin = 0;
    std::size_t end = points.size();
    while (left_ && begin < end && is_space(points[begin])) ++begin;
    while (right_ && end > begin && is_space(points[end - 1])) --end;
    std::size_t place = 0;
    filter_characters(text, [&](char32_t) {
      const bool keep = place >= begin && place < end;
      ++place;
      return keep;
    });
  }

 private:
  bool left_;
  bool right_;
};

class StripAccents final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override {
    const CharClassTable& table = CharClassTable::get();
    filter_characters(text, [&](char32_t point) { return (table[point] & kCombiningMark) == 0; });
  }
};

/// Clean-up rules of the NMT normalizer of SentencePiece: controls go, other separators are spaces.
class Nmt final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override {
    filter_characters(text, [](char32_t c) {
      return !((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
               c == 0x8F || c == 0x9F);
    });
    map_characters(text, [](char32_t c) { return is_separator(c) ? U' ' : c; });
  }

 private:
  static bool is_separator(char32_t c) {
    constexpr char32_t kSingles[] = {0x9,    0xA,    0xC,    0xD,    0x1680,
                                     0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD};
    return (c >= 0x200B && c <= 0x200F) ||
           std::find(std::begin(kSingles), std::end(kSingles), c) != std::end(kSingles);
  }
};

class ByteLevelNormalizer final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override {
    if (!text.view().empty()) text.transform(byte_level_changes(text.view()));
  }
};

}  // namespace

std::unique_ptr<Normalizer> make_replace_normalizer(const JsonNode& section) {
  return std::make_unique<Replace>(section);
}
std::unique_ptr<Normalizer> make_prepend(const JsonNode& section) {
  return std::make_unique<Prepend>(section);
}
std::unique_ptr<Normalizer> make_lowercase(const JsonNode&) {
  return std::make_unique<Lowercase>();
}
std::unique_ptr<Normalizer> make_strip_normalizer(const JsonNode& section) {
  return std::make_unique<Strip>(section);
}
std::unique_ptr<Normalizer> make_strip_accents(const JsonNode&) {
  return std::make_unique<StripAccents>();
}
std::unique_ptr<Normalizer> make_nmt(const JsonNode&) { return std::make_unique<Nmt>(); }
std::unique_ptr<Normalizer> make_byte_level_normalizer(const JsonNode&) {
  return std::make_unique<ByteLevelNormalizer>();
}

}  // namespace espalier::text

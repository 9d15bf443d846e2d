#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier::text {

/// Classes of a code point, as the `tokenizers` package sees them (unicode/tables.inc says how they
/// were found); a bit each.
enum CharClass : std::uint16_t {
  kLetter = 1U << 0U,            ///< \p{L}
  kNumber = 1U << 1U,            ///< \p{N}
  kMark = 1U << 2U,              ///< \p{M}
  kPunctuation = 1U << 3U,       ///< \p{P}
  kSymbol = 1U << 4U,            ///< \p{S}
  kSpace = 1U << 5U,             ///< \s, and Rust's char::is_whitespace
  kUpperLike = 1U << 6U,         ///< [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
  kLowerLike = 1U << 7U,         ///< [\p{Ll}\p{Lm}\p{Lo}\p{M}]
  kNewline = 1U << 8U,           ///< [\r\n]
  kWord = 1U << 9U,              ///< \w of Rust's regex
  kNumeric = 1U << 10U,          ///< Rust's char::is_numeric
  kPunctuationMark = 1U << 11U,  ///< ASCII punctuation, or punctuation of unicode_categories
  kCombiningMark = 1U << 12U,    ///< is_combining_mark of unicode-normalization
  kBertControl = 1U << 13U,      ///< what BERT's clean-up drops
  kBertAccent = 1U << 14U,       ///< Mn of unicode_categories
  kJoining = 1U << 15U,          ///< shares a grapheme cluster with what stands before it
};

/// Two-stage table; built once, in well under a millisecond.
class CharClassTable {
 public:
  static const CharClassTable& get();

  std::uint16_t operator[](char32_t point) const {
    return blocks_[index_[point >> 8U]][point & 0xFFU];
  }

 private:
  CharClassTable();

  std::array<std::uint16_t, 0x1100> index_{};
  std::vector<std::array<std::uint16_t, 256>> blocks_;
};

/// Sorted ranges of a general category ("L", "Lu", ...) or "Word" for Oniguruma's \w; empty for
/// other names.
std::vector<std::pair<char32_t, char32_t>> property_ranges(std::string_view name);

/// A number for the script of `point`, as the pre-tokenizer UnicodeScripts sees it; 0 for
/// characters that go with every script.
int script_of(char32_t point);

/// Lower-case form of `point` as in Rust's char::to_lowercase: up to three code points, 0 behind.
std::array<char32_t, 3> lowercase(char32_t point);

}  // namespace espalier::text

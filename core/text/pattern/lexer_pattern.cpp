// Hand-written matchers for the split expressions of GPT-2, Llama 3 and Qwen 2, o200k and
// DeepSeek-V3. Each follows the alternatives of its expression in order, with the backtracking that
// they allow.
#include <array>

#include "espalier/base/utf8.h"
#include "text/pattern/pattern.h"
#include "text/unicode/properties.h"

namespace espalier::text {

const char* const kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

/// Reads classes of characters off a text, ASCII without decoding.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  struct Char {
    std::uint16_t classes = 0;
    std::uint32_t next = 0;  ///< place behind the character
  };

  std::uint32_t size() const { return static_cast<std::uint32_t>(text_.size()); }
  bool at_end(std::uint32_t at) const { return at >= text_.size(); }
  char byte(std::uint32_t at) const { return at < text_.size() ? text_[at] : '\0'; }

  Char read(std::uint32_t at) const {
    const auto lead = static_cast<unsigned char>(text_[at]);
    if (lead < 0x80) return {ascii_[lead], at + 1};
    std::size_t next = at;
    const std::uint16_t classes = table_[next_code_point(text_, next)];
    return {classes, static_cast<std::uint32_t>(next)};
  }
  /// 0 at the end of the text.
  std::uint16_t classes(std::uint32_t at) const { return at_end(at) ? 0 : read(at).classes; }
  char32_t point(std::uint32_t at) const {
    std::size_t next = at;
    return next_code_point(text_, next);
  }

  /// Place behind the longest run of characters that have one of `wanted`.
  std::uint32_t run(std::uint32_t at, std::uint16_t wanted) const {
    while (!at_end(at)) {
      const Char c = read(at);
      if ((c.classes & wanted) == 0) break;
      at = c.next;
    }
    return at;
  }
  /// The same for characters that have none of `unwanted`.
  std::uint32_t run_without(std::uint32_t at, std::uint16_t unwanted) const {
    while (!at_end(at)) {
      const Char c = read(at);
      if ((c.classes & unwanted) != 0) break;
      at = c.next;
    }
    return at;
  }
  std::uint32_t run_of(std::uint32_t at, std::string_view bytes) const {
    while (!at_end(at) && bytes.find(text_[at]) != std::string_view::npos) ++at;
    return at;
  }

 private:
  static const std::array<std::uint16_t, 128>& ascii_table() {
    static const std::array<std::uint16_t, 128> kAscii = [] {
      std::array<std::uint16_t, 128> table{};
      for (char32_t c = 0; c < 128; ++c) table[c] = CharClassTable::get()[c];
      return table;
    }();
    return kAscii;
  }

  std::string_view text_;
  const CharClassTable& table_ = CharClassTable::get();
  const std::array<std::uint16_t, 128>& ascii_ = ascii_table();
};

/// `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe, or `at` when there is none. With `any_case`, U+017F
/// (long s) is an s as well.
std::uint32_t contraction(const Cursor& text, std::uint32_t at, bool any_case) {
  if (text.byte(at) != '\'') return at;
  const auto letter = [&](std::uint32_t place) {
    const char c = text.byte(place);
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(at + 1);
  const char second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
      (first == 'l' && second == 'l'))
    return at + 3;
  if (any_case && text.byte(at + 1) == '\xC5' && text.byte(at + 2) == '\xBF') return at + 3;
  return at;
}

/// `\s+(?!\S)|\s+`
std::uint32_t spaces(const Cursor& text, std::uint32_t at) {
  std::uint32_t last = at;
  std::uint32_t end = at;
  while (!text.at_end(end)) {
    const Cursor::Char c = text.read(end);
    if ((c.classes & kSpace) == 0) return last > at ? last : end;
    last = end;
    end = c.next;
  }
  return end;
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`
std::uint32_t spaces_or_lines(const Cursor& text, std::uint32_t at) {
  std::uint32_t last = at;
  std::uint32_t end = at;
  std::uint32_t behind_newline = at;
  bool inside = false;
  while (!text.at_end(end)) {
    const Cursor::Char c = text.read(end);
    inside = (c.classes & kSpace) == 0;
    if (inside) break;
    last = end;
    end = c.next;
    if ((c.classes & kNewline) != 0) behind_newline = end;
  }
  if (behind_newline > at) return behind_newline;
  return inside && last > at ? last : end;
}

std::uint32_t up_to(const Cursor& text, std::uint32_t at, std::uint16_t wanted, int most) {
  for (int i = 0; i < most && (text.classes(at) & wanted) != 0; ++i) at = text.read(at).next;
  return at;
}

/// GPT-2.
struct Gpt2Lexer {
  std::uint32_t match(const Cursor& text, std::uint32_t at) const {
    std::uint32_t end = contraction(text, at, false);
    if (end > at) return end;
    const std::uint32_t start = text.byte(at) == ' ' ? at + 1 : at;
    const std::uint16_t classes = text.classes(start);
    if ((classes & kLetter) != 0) return text.run(start, kLetter);
    if ((classes & kNumber) != 0) return text.run(start, kNumber);
    if (!text.at_end(start) && (classes & kSpace) == 0)
      return text.run_without(start, kSpace | kLetter | kNumber);
    return spaces(text, at);
  }
};

/// Llama 3 (and GPT-4) with three digits, Qwen 2 with one.
struct Cl100kLexer {
  int most_digits;

  std::uint32_t match(const Cursor& text, std::uint32_t at) const {
    std::uint32_t end = contraction(text, at, true);
    if (end > at) return end;
    const Cursor::Char first = text.read(at);
    if ((first.classes & kLetter) != 0) return text.run(at, kLetter);
    if ((first.classes & (kNewline | kNumber)) == 0 && (text.classes(first.next) & kLetter) != 0)
      return text.run(first.next, kLetter);
    if ((first.classes & kNumber) != 0) return up_to(text, at, kNumber, most_digits);
    const std::uint32_t start = text.byte(at) == ' ' ? at + 1 : at;
    if (!text.at_end(start) && (text.classes(start) & (kSpace | kLetter | kNumber)) == 0)
      return text.run_of(text.run_without(start, kSpace | kLetter | kNumber), "\r\n");
    return spaces_or_lines(text, at);
  }
};

/// GPT-4o and its relatives.
struct O200kLexer {
  std::uint32_t match(const Cursor& text, std::uint32_t at) const {
    const Cursor::Char first = text.read(at);
    const bool prefix = (first.classes & (kNewline | kLetter | kNumber)) == 0;
    std::uint32_t end = at;
    if (prefix) end = upper_then_lower(text, first.next);
    if (!prefix || end == first.next) end = upper_then_lower(text, at);
    if (end > at) return contraction(text, end, true);
    if (prefix) end = text.run(first.next, kUpperLike);
    if (!prefix || end == first.next) end = text.run(at, kUpperLike);
    if (end > at) return contraction(text, text.run(end, kLowerLike), true);
    if ((first.classes & kNumber) != 0) return up_to(text, at, kNumber, 3);
    const std::uint32_t start = text.byte(at) == ' ' ? at + 1 : at;
    if (!text.at_end(start) && (text.classes(start) & (kSpace | kLetter | kNumber)) == 0)
      return text.run_of(text.run_without(start, kSpace | kLetter | kNumber), "\r\n/");
    return spaces_or_lines(text, at);
  }

  /// `[upper-like]*[lower-like]+`, or `at` when it doesn't match there.
  static std::uint32_t upper_then_lower(const Cursor& text, std::uint32_t at) {
    std::uint32_t end = at;
    std::uint32_t behind_last_lower = at;  // where giving back characters of the run can stop
    while (!text.at_end(end)) {
      const Cursor::Char c = text.read(end);
      if ((c.classes & kUpperLike) == 0) break;
      end = c.next;
      if ((c.classes & kLowerLike) != 0) behind_last_lower = end;
    }
    const std::uint32_t behind_lower = text.run(end, kLowerLike);
    return behind_lower > end ? behind_lower : behind_last_lower;
  }
};

/// `\p{N}{1,3}`
struct DigitsLexer {
  std::uint32_t match(const Cursor& text, std::uint32_t at) const {
    return up_to(text, at, kNumber, 3);
  }
};

/// `[一-龥぀-ゟ゠-ヿ]+`
struct CjkLexer {
  std::uint32_t match(const Cursor& text, std::uint32_t at) const {
    while (!text.at_end(at)) {
      const Cursor::Char c = text.read(at);
      if (c.next - at != 3) break;
      const char32_t point = text.point(at);
      if (!(point >= 0x4E00 && point <= 0x9FA5) && !(point >= 0x3040 && point <= 0x30FF)) break;
      at = c.next;
    }
    return at;
  }
};

/// The last of DeepSeek-V3's three expressions.
struct DeepSeekV3Lexer {
  static bool is_ascii_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

  std::uint32_t match(const Cursor& text, std::uint32_t at) const {
    const char lead = text.byte(at);
    const Cursor::Char first = text.read(at);
    if ((first.classes & kPunctuationMark) != 0 && static_cast<unsigned char>(lead) < 0x80 &&
        is_ascii_letter(text.byte(at + 1))) {
      std::uint32_t end = at + 1;
      while (is_ascii_letter(text.byte(end))) ++end;
      return end;
    }
    constexpr std::uint16_t kNoPrefix = kNewline | kLetter | kPunctuation | kSymbol;
    if ((first.classes & kNoPrefix) == 0 && (text.classes(first.next) & (kLetter | kMark)) != 0)
      return text.run(first.next, kLetter | kMark);
    if ((first.classes & (kLetter | kMark)) != 0) return text.run(at, kLetter | kMark);
    const std::uint32_t start = lead == ' ' ? at + 1 : at;
    if ((text.classes(start) & (kPunctuation | kSymbol)) != 0)
      return text.run_of(text.run(start, kPunctuation | kSymbol), "\r\n");
    return spaces_or_lines(text, at);
  }
};

template <class Lexer>
class LexerPattern final : public Pattern {
 public:
  explicit LexerPattern(Lexer lexer = {}) : lexer_(lexer) {}

  void find(std::string_view text, std::vector<Span>& spans) const override {
    const Cursor cursor(text);
    std::uint32_t covered = 0;
    for (std::uint32_t at = 0; at < cursor.size();) {
      const std::uint32_t end = lexer_.match(cursor, at);
      if (end == at) {
        at = cursor.read(at).next;
        continue;
      }
      if (covered != at) spans.push_back({covered, at, false});
      spans.push_back({at, end, true});
      covered = at = end;
    }
    if (covered != cursor.size()) spans.push_back({covered, cursor.size(), false});
  }

 private:
  Lexer lexer_;
};

constexpr std::string_view kLlama3Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kO200kExpression =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeekV3Expression =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Some files escape the quotation mark once more.
constexpr std::string_view kDeepSeekV3EscapedExpression =
    R"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

std::unique_ptr<Pattern> make_lexer_pattern(std::string_view expression) {
  if (expression == kGpt2Expression) return std::make_unique<LexerPattern<Gpt2Lexer>>();
  if (expression == kLlama3Expression)
    return std::make_unique<LexerPattern<Cl100kLexer>>(Cl100kLexer{3});
  if (expression == kQwen2Expression)
    return std::make_unique<LexerPattern<Cl100kLexer>>(Cl100kLexer{1});
  if (expression == kO200kExpression) return std::make_unique<LexerPattern<O200kLexer>>();
  if (expression == R"(\p{N}{1,3})") return std::make_unique<LexerPattern<DigitsLexer>>();
  if (expression == "[一-龥぀-ゟ゠-ヿ]+") return std::make_unique<LexerPattern<CjkLexer>>();
  if (expression == kDeepSeekV3Expression || expression == kDeepSeekV3EscapedExpression)
    return std::make_unique<LexerPattern<DeepSeekV3Lexer>>();
  return nullptr;
}

}  // namespace espalier::text

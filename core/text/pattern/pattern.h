#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::text {

/// A stretch of a text in bytes; `matched` tells a match from what lies between two matches.
struct Span {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool matched = false;
};

/// Something that finds its non-overlapping matches in a text. Immutable; thread safe.
class Pattern {
 public:
  Pattern() = default;
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
  virtual ~Pattern() = default;

  /// Appends spans that cover all of `text` (valid UTF-8) in order.
  virtual void find(std::string_view text, std::vector<Span>& spans) const = 0;
};

/// Oniguruma with the character properties of the `tokenizers` package. Throws Error(kBadInput)
/// that names `where` when the expression doesn't compile.
std::unique_ptr<Pattern> make_regex_pattern(const std::string& expression,
                                            const std::string& where);

/// A hand-written lexer for expressions that many tokenizers share, recognised by their text;
/// nullptr for others. Its matches equal those of make_regex_pattern.
std::unique_ptr<Pattern> make_lexer_pattern(std::string_view expression);

/// The faster of the two.
std::unique_ptr<Pattern> make_fast_pattern(const std::string& expression, const std::string& where);

std::unique_ptr<Pattern> make_literal_pattern(std::string literal);

/// Single characters whose classes (unicode/properties.h) meet `classes`.
std::unique_ptr<Pattern> make_class_pattern(std::uint16_t classes);

/// Expression of the ByteLevel pre-tokenizer.
extern const char* const kGpt2Expression;

}  // namespace espalier::text

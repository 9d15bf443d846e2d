#include <algorithm>
#include <array>

#include "espalier/base/utf8.h"
#include "text/chat/item.h"
#include "text/chat/python_text.h"
#include "text/chat/token.h"

namespace espalier::text::chat {
namespace {

/// Line ends as \n, and without the last one.
std::string normalize_lines(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_lines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_data();
    push(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(std::string message) const {
    throw TemplateFailure{"TemplateSyntaxError", std::move(message), line_};
  }
  char peek(std::size_t offset = 0) const {
    return at_ + offset < source_.size() ? source_[at_ + offset] : '\0';
  }
  bool starts(std::string_view text) const {
    return std::string_view(source_).substr(at_).starts_with(text);
  }
  void push(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }
  void advance(std::size_t count) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(at_);
    line_ += static_cast<std::uint32_t>(
        std::count(begin, begin + static_cast<std::ptrdiff_t>(count), '\n'));
    at_ += count;
    if (count > 0) line_starting_ = source_[at_ - 1] == '\n';
  }
  void skip_spaces() {
    while (at_ < source_.size()) {
      std::size_t next = at_;
      if (!is_space(next_code_point(source_, next))) break;
      advance(next - at_);
    }
  }

  /// `text` before a tag, stripped as the tag's sign and lstrip_blocks say.
  std::string before_tag(std::string_view text, char sign, bool variable) const {
    if (sign == '-') return strip(text, nullptr, false, true);
    if (sign == '+' || variable) return std::string(text);
    const std::size_t newline = text.rfind('\n');
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (begin == 0 && !line_starting_) return std::string(text);
    const bool blank = strip(text.substr(begin), nullptr, true, true).empty();
    return std::string(blank ? text.substr(0, begin) : text);
  }

  void read_data() {
    const std::size_t begin = at_;
    std::size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 == source_.size()) {
        tag = source_.size();
        break;
      }
      if (source_[tag + 1] == '{' || source_[tag + 1] == '%' || source_[tag + 1] == '#') break;
      ++tag;
    }
    const std::string_view text = std::string_view(source_).substr(begin, tag - begin);
    if (tag == source_.size()) {
      if (!text.empty()) push(TokenType::kData, std::string(text));
      advance(text.size());
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const bool signed_tag = sign == '-' || sign == '+';
    const std::string data = before_tag(text, signed_tag ? sign : '\0', kind == '{');
    if (!data.empty()) push(TokenType::kData, data);
    advance(text.size());
    if (kind == '#') {
      advance(signed_tag ? 3 : 2);
      skip_comment();
    } else if (kind == '%' && try_raw()) {
      return;
    } else {
      advance(signed_tag ? 3 : 2);
      push(kind == '{' ? TokenType::kVariableBegin : TokenType::kBlockBegin, "");
      read_tag(kind == '{' ? "}}" : "%}");
    }
  }

  void skip_comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) {
      if (at_ == source_.size()) return;  // an opening at the very end is let pass
      fail_here("Missing end of comment tag");
    }
    const char sign = end > at_ ? source_[end - 1] : '\0';
    advance(end + 2 - at_);
    end_of_block(sign);
  }

  /// What follows a block or comment: its sign says whether white space or one line end goes.
  void end_of_block(char sign) {
    if (sign == '-') {
      skip_spaces();
    } else if (sign != '+' && peek() == '\n') {
      advance(1);
    }
  }

  /// `{% raw %} ... {% endraw %}` at a block tag.
  bool try_raw() {
    const std::size_t behind = match_word(at_ + 2, "raw");
    if (behind == std::string::npos) return false;
    const bool strips = source_.compare(behind, 3, "-%}") == 0;
    if (!strips && source_.compare(behind, 2, "%}") != 0) return false;
    advance(behind + (strips ? 3 : 2) - at_);
    if (strips) skip_spaces();
    for (std::size_t tag = source_.find("{%", at_); tag != std::string::npos;
         tag = source_.find("{%", tag + 1)) {
      std::size_t end = match_word(tag + 2, "endraw");
      if (end == std::string::npos) continue;
      const char sign = source_[end] == '-' || source_[end] == '+' ? source_[end] : '\0';
      if (sign != '\0') ++end;
      if (source_.compare(end, 2, "%}") != 0) continue;
      const char open_sign = source_[tag + 2];
      const std::string data =
          before_tag(std::string_view(source_).substr(at_, tag - at_), open_sign, false);
      if (!data.empty()) push(TokenType::kData, data);
      advance(end + 2 - at_);
      end_of_block(sign);
      return true;
    }
    if (at_ == source_.size()) return true;
    fail_here("Missing end of raw directive");
  }

  /// Place behind `[-+]? \s* word \s*` at `at`, or npos.
  std::size_t match_word(std::size_t at, std::string_view word) const {
    const auto skip = [&] {
      while (at < source_.size() &&
             (source_[at] == ' ' || (source_[at] >= '\t' && source_[at] <= '\r')))
        ++at;
    };
    if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) ++at;
    skip();
    if (source_.compare(at, word.size(), word) != 0) return std::string::npos;
    at += word.size();
    skip();
    return at < source_.size() ? at : std::string::npos;
  }

  void read_tag(std::string_view end) {
    std::string open;  // closing characters of the brackets around this place
    while (true) {
      skip_spaces();
      if (at_ >= source_.size())
        fail_here("unexpected end of template, expected '" + std::string(end) + "'");
      if (open.empty() && try_tag_end(end)) return;
      const char c = peek();
      if (is_digit(c)) {
        read_number();
      } else if (c == '\'' || c == '"') {
        read_string();
      } else if (!try_name()) {
        read_operator(open);
      }
    }
  }

  bool try_tag_end(std::string_view end) {
    const bool block = end == "%}";
    const char sign = peek();
    const bool is_signed = sign == '-' || (block && sign == '+');
    if (std::string_view(source_).substr(at_ + (is_signed ? 1 : 0)).substr(0, 2) != end)
      return false;
    push(block ? TokenType::kBlockEnd : TokenType::kVariableEnd, "");
    advance(is_signed ? 3 : 2);
    if (block) {
      end_of_block(is_signed ? sign : '\0');
    } else if (is_signed) {
      skip_spaces();
    }
    return true;
  }

  bool try_name() {
    std::size_t end = at_;
    while (end < source_.size()) {
      std::size_t next = end;
      const char32_t point = next_code_point(source_, next);
      if (!is_word(point)) break;
      end = next;
    }
    if (end == at_) return false;
    push(TokenType::kName, source_.substr(at_, end - at_));
    advance(end - at_);
    return true;
  }

  /// Digits with single underscores between them, from `at` on.
  std::size_t digits(std::size_t at) const {
    while (at < source_.size() &&
           (is_digit(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() &&
                                      is_digit(source_[at + 1]) && is_digit(source_[at - 1]))))
      ++at;
    return at;
  }

  /// Place behind a number with a mark such as 0x, whose digits single underscores may group; `at_`
  /// where there is none.
  std::size_t marked_number_end() const {
    const char mark = static_cast<char>(peek(1) | 0x20);
    const std::string_view digits = mark == 'x'   ? "0123456789abcdefABCDEF"
                                    : mark == 'o' ? "01234567"
                                    : mark == 'b' ? "01"
                                                  : "";
    const auto is_part = [&](std::size_t place) {
      return place < source_.size() && digits.find(source_[place]) != std::string_view::npos;
    };
    if (peek() != '0') return at_;
    std::size_t end = at_ + 2;
    while (is_part(end) || (end < source_.size() && source_[end] == '_' && is_part(end + 1)))
      end += source_[end] == '_' ? 2 : 1;
    return end == at_ + 2 ? at_ : end;
  }

  /// Place behind the fraction and exponent of a number whose digits end at `end`; `end` where it
  /// has none.
  std::size_t fraction_end(std::size_t end) const {
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1]))
      end = digits(end + 1);
    if (end >= source_.size() || (source_[end] != 'e' && source_[end] != 'E')) return end;
    std::size_t exponent = end + 1;
    if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-'))
      ++exponent;
    return exponent < source_.size() && is_digit(source_[exponent]) ? digits(exponent) : end;
  }

  void read_number() {
    const std::size_t whole = digits(at_);
    const bool behind_dot = at_ > 0 && source_[at_ - 1] == '.';
    std::size_t end = behind_dot ? whole : fraction_end(whole);
    const bool is_float = end != whole;
    if (const std::size_t marked = marked_number_end(); marked != at_) {
      end = marked;
    } else if (!is_float && peek() == '0') {  // an integer has no leading zeros
      for (end = at_ + 1; end < whole && (source_[end] == '0' || source_[end] == '_');) ++end;
      if (source_[end - 1] == '_') --end;
    }
    push(is_float ? TokenType::kFloat : TokenType::kInteger, cleaned(at_, end));
    advance(end - at_);
  }

  std::string cleaned(std::size_t begin, std::size_t end) const {
    std::string text = source_.substr(begin, end - begin);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    return text;
  }

  void read_string() {
    const char quote = peek();
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size())
      fail_here(std::string("unexpected char ") + repr_string(std::string(1, quote)) + " at " +
                std::to_string(at_));
    const std::string value = unescaped(source_.substr(at_ + 1, end - at_ - 1));
    push(TokenType::kString, value);
    advance(end + 1 - at_);
  }

  /// Escapes of Python's string literals.
  std::string unescaped(std::string_view text) const {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      constexpr std::string_view kNames = "abfnrtv\\'\"";
      constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
      if (const std::size_t found = kNames.find(c); found != std::string_view::npos) {
        out += kValues[found];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const std::size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_code(out, text.substr(std::min(i + 1, text.size()), count), count, 16);
        i += count;
      } else if (c >= '0' && c <= '7') {
        std::size_t count = 1;
        while (count < 3 && i + count < text.size() && text[i + count] >= '0' &&
               text[i + count] <= '7')
          ++count;
        append_code(out, text.substr(i, count), count, 8);
        i += count - 1;
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  void append_code(std::string& out, std::string_view digits, std::size_t count, int base) const {
    const bool valid =
        digits.size() == count && std::all_of(digits.begin(), digits.end(), [](char c) {
          return std::isxdigit(static_cast<unsigned char>(c)) != 0;
        });
    const unsigned long point = valid ? std::stoul(std::string(digits), nullptr, base) : 0x110000;
    if (point > 0x10FFFF) fail_here("a string has a truncated or illegal escape");
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;  // no place in UTF-8
    append_utf8(out, surrogate ? kReplacementCharacter : static_cast<char32_t>(point));
  }

  void read_operator(std::string& open) {
    constexpr std::array<std::string_view, 6> kLong = {"//", "**", "==", "!=", ">=", "<="};
    std::string text(1, peek());
    for (const std::string_view candidate : kLong)
      if (starts(candidate)) text = candidate;
    constexpr std::string_view kShort = "+-/*%~[](){}><=.:|,;";
    if (text.size() == 1 && kShort.find(text[0]) == std::string_view::npos) {
      const std::string character = source_.substr(at_, utf8_length(text[0]));
      fail_here("unexpected char " + repr_string(character) + " at " + std::to_string(at_));
    }
    track_bracket(text[0], open);
    push(TokenType::kOperator, text);
    advance(text.size());
  }

  void track_bracket(char c, std::string& open) const {
    constexpr std::string_view kOpening = "([{";
    constexpr std::string_view kClosing = ")]}";
    if (const std::size_t found = kOpening.find(c); found != std::string_view::npos) {
      open += kClosing[found];
    } else if (kClosing.find(c) != std::string_view::npos) {
      if (open.empty()) fail_here("unexpected '" + std::string(1, c) + "'");
      if (open.back() != c)
        fail_here("unexpected '" + std::string(1, c) + "', expected '" + open.back() + "'");
      open.pop_back();
    }
  }

  std::string source_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view source) { return Lexer(source).run(); }

}  // namespace espalier::text::chat

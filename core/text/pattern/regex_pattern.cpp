#include <oniguruma.h>

#include <deque>
#include <map>
#include <mutex>

#include "espalier/base/error.h"
#include "espalier/base/utf8.h"
#include "text/pattern/pattern.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

/// Oniguruma's tables are of another Unicode version than those of the reference, so properties are
/// registered under names of our own. It keeps at most 20; later ones fall back to its tables.
class PropertyRegistry {
 public:
  static PropertyRegistry& get() {
    static PropertyRegistry registry;
    return registry;
  }

  /// Oniguruma's name for `property`: ours where it has one.
  std::string name_for(const std::string& property) {
    const std::lock_guard lock(mutex_);
    const auto known = names_.find(property);
    if (known != names_.end()) return known->second;
    const auto ranges = property_ranges(property);
    std::string name = property;
    if (!ranges.empty()) {
      std::vector<OnigCodePoint>& flat = storage_.emplace_back();
      flat.push_back(static_cast<OnigCodePoint>(ranges.size()));
      for (const auto& [first, last] : ranges) {
        flat.push_back(first);
        flat.push_back(last);
      }
      const std::string own = "espalier" + property;
      if (onig_unicode_define_user_property(own.c_str(), flat.data()) == ONIG_NORMAL) name = own;
    }
    return names_.emplace(property, name).first->second;
  }

 private:
  PropertyRegistry() {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  }

  std::mutex mutex_;
  std::map<std::string, std::string> names_;
  std::deque<std::vector<OnigCodePoint>> storage_;  // Oniguruma keeps pointers into it
};

/// `\b` or `\B` in terms of our word characters.
std::string word_boundary(PropertyRegistry& registry, bool negated) {
  const std::string word = "\\p{" + registry.name_for("Word") + "}";
  return negated ? "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))"
                 : "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))";
}

/// Puts our properties in place of `\p{L}`, `\w` and the like.
std::string with_own_properties(const std::string& expression) {
  PropertyRegistry& registry = PropertyRegistry::get();
  std::string out;
  int brackets = 0;  // \b is a backspace inside of them
  for (std::size_t i = 0; i < expression.size(); ++i) {
    if (expression[i] != '\\' || i + 1 == expression.size()) {
      if (expression[i] == '[') ++brackets;
      if (expression[i] == ']' && brackets > 0) --brackets;
      out += expression[i];
      continue;
    }
    const char kind = expression[++i];
    const std::size_t close = expression.find('}', i);
    if (kind == 'w' || kind == 'W') {
      out += (kind == 'w' ? "\\p{" : "\\P{") + registry.name_for("Word") + "}";
    } else if ((kind == 'b' || kind == 'B') && brackets == 0) {
      out += word_boundary(registry, kind == 'B');
    } else if (kind == 'd' || kind == 'D') {
      out += (kind == 'd' ? "\\p{" : "\\P{") + registry.name_for("Nd") + "}";
    } else if ((kind == 'p' || kind == 'P') && i + 1 < expression.size() &&
               expression[i + 1] == '{' && close != std::string::npos) {
      std::string name = expression.substr(i + 2, close - i - 2);
      const std::string negation = !name.empty() && name[0] == '^' ? "^" : "";
      name = registry.name_for(name.substr(negation.size()));
      out += std::string("\\") + kind + "{" + negation + name + "}";
      i = close;
    } else {
      out += '\\';
      out += kind;
    }
  }
  return out;
}

const OnigUChar* bytes_of(const char* text) { return reinterpret_cast<const OnigUChar*>(text); }

std::string error_text(int code, OnigErrorInfo* info) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(buffer, code, info);
  return std::string(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(length));
}

class RegexPattern final : public Pattern {
 public:
  RegexPattern(const std::string& expression, const std::string& where) {
    const std::string own = with_own_properties(expression);
    OnigErrorInfo info;
    const int code = onig_new(&regex_, bytes_of(own.data()), bytes_of(own.data() + own.size()),
                              ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_ONIGURUMA, &info);
    if (code != ONIG_NORMAL)
      throw_bad_input("a regular expression of the tokenizer doesn't compile", expression,
                      error_text(code, &info), where);
  }
  ~RegexPattern() override { onig_free(regex_); }

  void find(std::string_view text, std::vector<Span>& spans) const override {
    struct Region {
      OnigRegion* region = onig_region_new();
      ~Region() { onig_region_free(region, 1); }
    } owned;
    const OnigUChar* begin = bytes_of(text.data());
    const OnigUChar* end = begin + text.size();
    std::uint32_t covered = 0;
    std::size_t at = 0;
    while (at <= text.size()) {
      const int place =
          onig_search(regex_, begin, end, begin + at, end, owned.region, ONIG_OPTION_NONE);
      if (place == ONIG_MISMATCH) break;
      if (place < 0)
        throw_bad_input("a regular expression of the tokenizer gave up on a text", {}, {},
                        error_text(place, nullptr));
      const auto first = static_cast<std::uint32_t>(owned.region->beg[0]);
      const auto last = static_cast<std::uint32_t>(owned.region->end[0]);
      // An empty match right behind another one would never end.
      if (first == last && any_match_ended_at(spans, covered, last)) {
        at += at < text.size() ? utf8_length(text[at]) : 1;
        continue;
      }
      if (covered != first) spans.push_back({covered, first, false});
      spans.push_back({first, last, true});
      covered = last;
      at = last;
    }
    if (covered != text.size())
      spans.push_back({covered, static_cast<std::uint32_t>(text.size()), false});
  }

 private:
  static bool any_match_ended_at(const std::vector<Span>& spans, std::uint32_t covered,
                                 std::uint32_t place) {
    return covered == place && !spans.empty() && spans.back().matched && spans.back().end == place;
  }

  regex_t* regex_ = nullptr;
};

}  // namespace

std::unique_ptr<Pattern> make_regex_pattern(const std::string& expression,
                                            const std::string& where) {
  return std::make_unique<RegexPattern>(expression, where);
}

std::unique_ptr<Pattern> make_fast_pattern(const std::string& expression,
                                           const std::string& where) {
  if (auto lexer = make_lexer_pattern(expression)) return lexer;
  return make_regex_pattern(expression, where);
}

}  // namespace espalier::text

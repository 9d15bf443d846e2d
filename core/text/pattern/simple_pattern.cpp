#include "espalier/base/utf8.h"
#include "text/pattern/pattern.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

class LiteralPattern final : public Pattern {
 public:
  explicit LiteralPattern(std::string literal) : literal_(std::move(literal)) {}

  void find(std::string_view text, std::vector<Span>& spans) const override {
    std::uint32_t covered = 0;
    std::size_t at = literal_.empty() ? std::string_view::npos : text.find(literal_);
    while (at != std::string_view::npos) {
      const auto begin = static_cast<std::uint32_t>(at);
      const auto end = static_cast<std::uint32_t>(at + literal_.size());
      if (covered != begin) spans.push_back({covered, begin, false});
      spans.push_back({begin, end, true});
      covered = end;
      at = text.find(literal_, covered);
    }
    if (covered != text.size())
      spans.push_back({covered, static_cast<std::uint32_t>(text.size()), false});
  }

 private:
  std::string literal_;
};

class ClassPattern final : public Pattern {
 public:
  explicit ClassPattern(std::uint16_t classes) : classes_(classes) {}

  void find(std::string_view text, std::vector<Span>& spans) const override {
    const CharClassTable& table = CharClassTable::get();
    std::uint32_t covered = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto begin = static_cast<std::uint32_t>(at);
      if ((table[next_code_point(text, at)] & classes_) == 0) continue;
      if (covered != begin) spans.push_back({covered, begin, false});
      covered = static_cast<std::uint32_t>(at);
      spans.push_back({begin, covered, true});
    }
    if (covered != text.size())
      spans.push_back({covered, static_cast<std::uint32_t>(text.size()), false});
  }

 private:
  std::uint16_t classes_;
};

}  // namespace

std::unique_ptr<Pattern> make_literal_pattern(std::string literal) {
  return std::make_unique<LiteralPattern>(std::move(literal));
}

std::unique_ptr<Pattern> make_class_pattern(std::uint16_t classes) {
  return std::make_unique<ClassPattern>(classes);
}

}  // namespace espalier::text

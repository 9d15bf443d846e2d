// Pre-tokenizers that only split: by an expression, by a class of characters, by length.
#include "espalier/base/utf8.h"
#include "text/pattern/pattern_section.h"
#include "text/pre_tokenizer/pre_tokenizer.h"
#include "text/pre_tokenizer/split_behavior.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

class PatternSplit final : public PreTokenizer {
 public:
  PatternSplit(std::unique_ptr<Pattern> pattern, SplitBehavior behavior, bool invert = false)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void pre_tokenize(PreTokenizedText& text) const override {
    split_by_pattern(text, *pattern_, behavior_, invert_);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// `\w+|[^\w\s]+`, with the white space between them dropped.
class WordsAndSymbols final : public PreTokenizer {
 public:
  void pre_tokenize(PreTokenizedText& text) const override {
    const CharClassTable& table = CharClassTable::get();
    text.split([&](const Piece& piece, std::vector<Piece>& out) {
      const std::string_view view = piece.view();
      int previous = 0;
      for (std::size_t at = 0; at < view.size();) {
        const auto begin = static_cast<std::uint32_t>(piece.begin + at);
        const std::uint16_t classes = table[next_code_point(view, at)];
        const auto end = static_cast<std::uint32_t>(piece.begin + at);
        const int kind = (classes & kWord) != 0 ? 1 : (classes & kSpace) != 0 ? 0 : 2;
        if (kind != 0 && kind == previous) {
          out.back().end = end;
        } else if (kind != 0) {
          out.push_back({piece.text, begin, end, -1, piece.byte_level});
        }
        previous = kind;
      }
    });
  }
};

class BertSplit final : public PreTokenizer {
 public:
  void pre_tokenize(PreTokenizedText& text) const override {
    split_by_pattern(text, *spaces_, SplitBehavior::kRemoved);
    split_by_pattern(text, *punctuation_, SplitBehavior::kIsolated);
  }

 private:
  std::unique_ptr<Pattern> spaces_ = make_class_pattern(kSpace);
  std::unique_ptr<Pattern> punctuation_ = make_class_pattern(kPunctuationMark);
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(const JsonNode& section) {
    const auto length = section.find("length");
    if (length) length_ = length->as_int(1, 1LL << 30);
  }

  void pre_tokenize(PreTokenizedText& text) const override {
    text.split([&](const Piece& piece, std::vector<Piece>& out) {
      const std::string_view view = piece.view();
      for (std::size_t at = 0; at < view.size();) {
        const auto begin = static_cast<std::uint32_t>(piece.begin + at);
        for (std::int64_t i = 0; i < length_ && at < view.size(); ++i) at += utf8_length(view[at]);
        out.push_back({piece.text, begin, static_cast<std::uint32_t>(piece.begin + at), -1,
                       piece.byte_level});
      }
    });
  }

 private:
  std::int64_t length_ = 5;
};

/// A new piece where the script changes. As in the reference, characters without a script of their
/// own (spaces, unassigned ones) that start a piece are dropped.
class UnicodeScripts final : public PreTokenizer {
 public:
  void pre_tokenize(PreTokenizedText& text) const override {
    text.split([&](const Piece& piece, std::vector<Piece>& out) {
      const std::string_view view = piece.view();
      int current = 0;
      for (std::size_t at = 0; at < view.size();) {
        const auto begin = static_cast<std::uint32_t>(piece.begin + at);
        const int script = script_of(next_code_point(view, at));
        const auto end = static_cast<std::uint32_t>(piece.begin + at);
        if (script != 0 && script != current) {
          out.push_back({piece.text, begin, end, -1, piece.byte_level});
          current = script;
        } else if (current != 0) {
          out.back().end = end;
        }
      }
    });
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_unicode_scripts(const JsonNode&) {
  return std::make_unique<UnicodeScripts>();
}

std::unique_ptr<PreTokenizer> make_split(const JsonNode& section) {
  auto pattern = read_pattern(section);
  const SplitBehavior behavior = read_split_behavior(section, "behavior");
  return std::make_unique<PatternSplit>(std::move(pattern), behavior,
                                        section.at("invert").as_bool());
}

std::unique_ptr<PreTokenizer> make_digits(const JsonNode& section) {
  const bool individual = section.at("individual_digits").as_bool();
  return std::make_unique<PatternSplit>(
      make_class_pattern(kNumeric),
      individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

std::unique_ptr<PreTokenizer> make_punctuation(const JsonNode& section) {
  const SplitBehavior behavior = section.find("behavior") ? read_split_behavior(section, "behavior")
                                                          : SplitBehavior::kIsolated;
  return std::make_unique<PatternSplit>(make_class_pattern(kPunctuationMark), behavior);
}

std::unique_ptr<PreTokenizer> make_whitespace(const JsonNode&) {
  return std::make_unique<WordsAndSymbols>();
}

std::unique_ptr<PreTokenizer> make_whitespace_split(const JsonNode&) {
  return std::make_unique<PatternSplit>(make_class_pattern(kSpace), SplitBehavior::kRemoved);
}

std::unique_ptr<PreTokenizer> make_bert_pre_tokenizer(const JsonNode&) {
  return std::make_unique<BertSplit>();
}

std::unique_ptr<PreTokenizer> make_char_delimiter_split(const JsonNode& section) {
  const JsonNode delimiter = section.at("delimiter");
  if (count_code_points(delimiter.as_string()) != 1)
    delimiter.fail("a delimiter is not one character", delimiter.as_string(), "one character");
  return std::make_unique<PatternSplit>(make_literal_pattern(delimiter.as_string()),
                                        SplitBehavior::kRemoved);
}

std::unique_ptr<PreTokenizer> make_fixed_length(const JsonNode& section) {
  return std::make_unique<FixedLength>(section);
}

}  // namespace espalier::text

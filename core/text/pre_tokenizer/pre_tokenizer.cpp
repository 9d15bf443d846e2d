#include "text/pre_tokenizer/pre_tokenizer.h"

#include "text/component_type.h"

namespace espalier::text {
namespace {

constexpr ComponentType<PreTokenizer> kTypes[] = {
    {"Sequence", make_pre_tokenizer_sequence},
    {"ByteLevel", make_byte_level_pre_tokenizer},
    {"Split", make_split},
    {"Digits", make_digits},
    {"Punctuation", make_punctuation},
    {"Whitespace", make_whitespace},
    {"WhitespaceSplit", make_whitespace_split},
    {"BertPreTokenizer", make_bert_pre_tokenizer},
    {"CharDelimiterSplit", make_char_delimiter_split},
    {"FixedLength", make_fixed_length},
    {"Metaspace", make_metaspace},
    {"UnicodeScripts", make_unicode_scripts},
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const JsonNode& section) {
    for (const JsonNode& part : section.at("pretokenizers").items())
      parts_.push_back(make_pre_tokenizer(part));
  }
  void pre_tokenize(PreTokenizedText& text) const override {
    for (const auto& part : parts_) part->pre_tokenize(text);
  }
  bool ends_byte_level() const override {
    return !parts_.empty() && parts_.back()->ends_byte_level();
  }
  void defer_bytes() override { parts_.back()->defer_bytes(); }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& section) {
  return make_component<PreTokenizer>(kTypes, "pre-tokenizer", section);
}

std::unique_ptr<PreTokenizer> make_pre_tokenizer_sequence(const JsonNode& section) {
  return std::make_unique<PreTokenizerSequence>(section);
}

}  // namespace espalier::text

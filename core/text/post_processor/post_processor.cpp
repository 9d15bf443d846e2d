#include "text/post_processor/post_processor.h"

#include <algorithm>

#include "text/byte_alphabet.h"
#include "text/component_type.h"
#include "text/unicode/properties.h"
#include "text/unicode/utf8.h"

namespace espalier::text {
namespace {

constexpr ComponentType<PostProcessor> kTypes[] = {
    {"Sequence", make_post_processor_sequence},
    {"ByteLevel", make_byte_level_post_processor},
    {"TemplateProcessing", make_template_processing},
    {"RobertaProcessing", make_roberta_processing},
    {"BertProcessing", make_bert_processing},
};

class PostProcessorSequence final : public PostProcessor {
 public:
  explicit PostProcessorSequence(const JsonNode& section) {
    for (const JsonNode& part : section.at("processors").items())
      parts_.push_back(make_post_processor(part));
  }
  void process(Encoding& encoding, bool add_special_tokens, bool ids_only) const override {
    for (const auto& part : parts_) part->process(encoding, add_special_tokens, ids_only);
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

class ByteLevelProcessing final : public PostProcessor {
 public:
  explicit ByteLevelProcessing(const JsonNode& section)
      : add_prefix_space_(section.at("add_prefix_space").as_bool()),
        trim_(section.at("trim_offsets").as_bool()) {}
  void process(Encoding& encoding, bool, bool ids_only) const override {
    if (trim_ && !ids_only) trim_offsets(encoding, add_prefix_space_);
  }

 private:
  bool add_prefix_space_;
  bool trim_;
};

InsertedToken read_pair(const JsonNode& node) {
  const auto items = node.items();
  if (items.size() != 2) node.fail("not a token and its id", {}, R"(["</s>", 2])");
  return {static_cast<std::int32_t>(items[1].as_int(0, INT32_MAX)), items[0].as_string()};
}

class BertProcessing : public PostProcessor {
 public:
  explicit BertProcessing(const JsonNode& section)
      : cls_({read_pair(section.at("cls"))}), sep_({read_pair(section.at("sep"))}) {}
  void process(Encoding& encoding, bool add_special_tokens, bool ids_only) const override {
    if (add_special_tokens) insert_around(encoding, cls_, sep_, ids_only);
  }

 private:
  std::vector<InsertedToken> cls_;
  std::vector<InsertedToken> sep_;
};

class RobertaProcessing final : public BertProcessing {
 public:
  explicit RobertaProcessing(const JsonNode& section)
      : BertProcessing(section),
        trim_(section.at("trim_offsets").as_bool()),
        add_prefix_space_(section.at("add_prefix_space").as_bool()) {}
  void process(Encoding& encoding, bool add_special_tokens, bool ids_only) const override {
    if (trim_ && !ids_only) trim_offsets(encoding, add_prefix_space_);
    BertProcessing::process(encoding, add_special_tokens, ids_only);
  }

 private:
  bool trim_;
  bool add_prefix_space_;
};

bool is_blank(char32_t point) {
  return point == byte_to_char(' ') || (CharClassTable::get()[point] & kSpace) != 0;
}

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor(const JsonNode& section) {
  return make_component<PostProcessor>(kTypes, "post-processor", section);
}
std::unique_ptr<PostProcessor> make_post_processor_sequence(const JsonNode& section) {
  return std::make_unique<PostProcessorSequence>(section);
}
std::unique_ptr<PostProcessor> make_byte_level_post_processor(const JsonNode& section) {
  return std::make_unique<ByteLevelProcessing>(section);
}
std::unique_ptr<PostProcessor> make_roberta_processing(const JsonNode& section) {
  return std::make_unique<RobertaProcessing>(section);
}
std::unique_ptr<PostProcessor> make_bert_processing(const JsonNode& section) {
  return std::make_unique<BertProcessing>(section);
}

void insert_around(Encoding& encoding, const std::vector<InsertedToken>& before,
                   const std::vector<InsertedToken>& behind, bool ids_only) {
  const auto insert = [&](std::size_t place, const InsertedToken& token) {
    const auto offset = static_cast<std::ptrdiff_t>(place);
    encoding.ids.insert(encoding.ids.begin() + offset, token.id);
    if (ids_only) return;
    encoding.tokens.insert(encoding.tokens.begin() + offset, token.token);
    encoding.offsets.insert(encoding.offsets.begin() + offset, {0, 0});
  };
  for (std::size_t i = 0; i < before.size(); ++i) insert(i, before[i]);
  for (const InsertedToken& token : behind) insert(encoding.ids.size(), token);
}

void trim_offsets(Encoding& encoding, bool add_prefix_space) {
  for (std::size_t i = 0; i < encoding.tokens.size(); ++i) {
    const std::u32string points = to_code_points(encoding.tokens[i]);
    auto leading = std::find_if_not(points.begin(), points.end(), is_blank) - points.begin();
    const auto trailing =
        std::find_if_not(points.rbegin(), points.rend(), is_blank) - points.rbegin();
    auto& [begin, end] = encoding.offsets[i];
    if (leading > 0) {
      // One space at the start of a text is the one that the pre-tokenizer added.
      if ((i == 0 || begin == 0) && add_prefix_space && leading == 1) leading = 0;
      begin = std::min(begin + leading, end);
    }
    if (trailing > 0 && end >= trailing) end = std::max(end - trailing, begin);
  }
}

}  // namespace espalier::text

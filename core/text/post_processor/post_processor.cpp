#include "text/post_processor/post_processor.h"

#include <algorithm>
#include <iterator>

#include "espalier/base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/component_type.h"
#include "text/unicode/properties.h"

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
  void process(std::vector<Encoding>& parts, bool add_special_tokens,
               bool ids_only) const override {
    for (const auto& part : parts_) part->process(parts, add_special_tokens, ids_only);
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

class ByteLevelProcessing final : public PostProcessor {
 public:
  explicit ByteLevelProcessing(const JsonNode& section)
      : add_prefix_space_(section.at("add_prefix_space").as_bool()),
        trim_(section.at("trim_offsets").as_bool()) {}
  void process(std::vector<Encoding>& parts, bool, bool ids_only) const override {
    if (!trim_ || ids_only) return;
    for (Encoding& part : parts) trim_offsets(part, add_prefix_space_);
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

/// [CLS] first [SEP] second [SEP]; with `doubled`, a [SEP] before the second text as well.
void wrap_parts(std::vector<Encoding>& parts, const InsertedToken& cls, const InsertedToken& sep,
                bool doubled, bool ids_only) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    std::vector<Encoding> pieces(2);
    const std::int32_t type_id = i == 0 || doubled ? 0 : 1;
    if (i == 0) append_token(pieces[0], cls, 0, ids_only);
    if (i != 0 && doubled) append_token(pieces[0], sep, 0, ids_only);
    append_token(pieces[1], sep, type_id, ids_only);
    pieces.insert(pieces.begin() + 1, std::move(parts[i]));
    parts[i] = join_encodings(std::move(pieces));
  }
}

class BertProcessing final : public PostProcessor {
 public:
  explicit BertProcessing(const JsonNode& section)
      : cls_(read_pair(section.at("cls"))), sep_(read_pair(section.at("sep"))) {}
  void process(std::vector<Encoding>& parts, bool add_special_tokens,
               bool ids_only) const override {
    if (add_special_tokens) wrap_parts(parts, cls_, sep_, false, ids_only);
  }

 private:
  InsertedToken cls_;
  InsertedToken sep_;
};

class RobertaProcessing final : public PostProcessor {
 public:
  explicit RobertaProcessing(const JsonNode& section)
      : cls_(read_pair(section.at("cls"))),
        sep_(read_pair(section.at("sep"))),
        trim_(section.at("trim_offsets").as_bool()),
        add_prefix_space_(section.at("add_prefix_space").as_bool()) {}
  void process(std::vector<Encoding>& parts, bool add_special_tokens,
               bool ids_only) const override {
    if (!ids_only) {
      for (Encoding& part : parts) {
        if (trim_) trim_offsets(part, add_prefix_space_);
        part.type_ids.assign(part.ids.size(), 0);
      }
    }
    if (add_special_tokens) wrap_parts(parts, cls_, sep_, true, ids_only);
  }

 private:
  InsertedToken cls_;
  InsertedToken sep_;
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

void append_token(Encoding& encoding, const InsertedToken& token, std::int32_t type_id,
                  bool ids_only) {
  encoding.ids.push_back(token.id);
  if (ids_only) return;
  encoding.tokens.push_back(token.token);
  encoding.offsets.emplace_back(0, 0);
  encoding.type_ids.push_back(type_id);
}

Encoding join_encodings(std::vector<Encoding> parts) {
  Encoding joined;
  if (parts.empty()) return joined;
  if (parts.size() == 1) return std::move(parts[0]);
  const auto append = [](auto& list, auto& more) {
    list.insert(list.end(), std::make_move_iterator(more.begin()),
                std::make_move_iterator(more.end()));
  };
  for (Encoding& part : parts) {
    append(joined.ids, part.ids);
    append(joined.tokens, part.tokens);
    append(joined.offsets, part.offsets);
    append(joined.type_ids, part.type_ids);
  }
  return joined;
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

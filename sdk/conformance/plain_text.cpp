#include "espalier/conformance/plain_text.h"

#include <algorithm>

namespace espalier::conformance {
namespace {

constexpr std::int32_t kBegin = 256;
constexpr std::int32_t kEnd = 257;
constexpr std::int32_t kPadding = 258;

std::int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<std::int32_t> ids;
    if (add_special_tokens) ids.push_back(kBegin);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  Encoding encode_with_offsets(std::string_view text, bool add_special_tokens) const override {
    Encoding encoding;
    encoding.ids = encode(text, add_special_tokens);
    if (add_special_tokens) encoding.offsets.emplace_back(0, 0);
    std::int64_t position = -1;
    for (const char c : text) {
      if ((c & 0xC0) != 0x80) ++position;
      encoding.offsets.emplace_back(position, position + 1);
    }
    for (const std::int32_t id : encoding.ids) encoding.tokens.push_back(id_to_token(id));
    return encoding;
  }
  std::string decode(const std::vector<std::int32_t>& ids, bool) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      if (id >= 0 && id < kBegin) text += static_cast<char>(id);
    }
    return text;
  }
  std::int32_t token_to_id(std::string_view token) const override {
    return token.size() == 1 ? static_cast<unsigned char>(token[0]) : -1;
  }
  std::string id_to_token(std::int32_t id) const override {
    constexpr std::string_view kSpecial[] = {"<begin>", "<end>", "<padding>"};
    if (id >= kBegin && id <= kPadding) return std::string(kSpecial[id - kBegin]);
    return id < 0 || id > kPadding ? std::string() : std::string(1, static_cast<char>(id));
  }
  std::int64_t vocab_size() const override { return kPadding + 1; }
  std::int32_t bos_id() const override { return kBegin; }
  std::int32_t eos_id() const override { return kEnd; }
  std::int32_t pad_id() const override { return kPadding; }
  std::int32_t unk_id() const override { return -1; }
};

std::string text_of(const Value& message, const char* key) {
  const Value* value = message.find(key);
  return value != nullptr && value->is_string() ? value->as_string() : std::string();
}

class PlainChatTemplate final : public ChatTemplate {
 public:
  RenderedChat render(const Value& messages, const Value&, bool add_generation_prompt,
                      const Table&) const override {
    RenderedChat chat;
    chat.has_generation_blocks = true;
    for (const Value& message : messages.as_array()) {
      const std::string role = text_of(message, "role");
      chat.text += "<" + role + ">";
      const std::int64_t start = code_points(chat.text);
      chat.text += text_of(message, "content");
      if (role == "assistant") chat.assistant_spans.emplace_back(start, code_points(chat.text));
      chat.text += "</" + role + ">";
    }
    if (add_generation_prompt) chat.text += "<assistant>";
    return chat;
  }
};

}  // namespace

std::shared_ptr<const Tokenizer> byte_tokenizer() { return std::make_shared<ByteTokenizer>(); }

std::shared_ptr<const ChatTemplate> plain_chat_template() {
  return std::make_shared<PlainChatTemplate>();
}

}  // namespace espalier::conformance

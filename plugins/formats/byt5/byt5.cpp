// Tokenizer of ByT5 folders, which have no file of a vocabulary: its class in tokenizer_config.json
// says all.
#include <filesystem>
#include <string>
#include <vector>

#include "byte_tokenizer.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/plugin.h"
#include "espalier/sdk/tokenizer_format.h"

namespace {

using espalier::Table;
using espalier::Value;

constexpr std::int64_t kExtraIds = 125;  // <extra_id_0> and on, where the folder says nothing else
constexpr std::int32_t kFirstExtra = ByteTokenizer::kFirstByte + ByteTokenizer::kByteCount;

/// The entries of added_tokens_decoder, which transformers writes: {"1": {"content": "</s>", ...}}.
std::vector<SpecialToken> listed_tokens(const Value& entries, const std::string& where) {
  std::vector<SpecialToken> tokens;
  for (const auto& [key, entry] : entries.as_table()) {
    SpecialToken token;
    const Value* content = entry.find("content");
    const bool is_number =
        !key.empty() && key.size() < 9 && key.find_first_not_of("0123456789") == std::string::npos;
    if (is_number) token.id = std::stoi(key);
    const bool is_byte = token.id >= ByteTokenizer::kFirstByte && token.id < kFirstExtra;
    if (!is_number || is_byte || content == nullptr || !content->is_string() ||
        content->as_string().empty()) {
      espalier::throw_bad_input("an added token is none that a byte tokenizer can have",
                                "\"" + key + "\": " + espalier::dump_json(entry),
                                "an id below 3 or from 259 on, and a content",
                                where + ": added_tokens_decoder");
    }
    token.text = content->as_string();
    const auto is_set = [&entry = entry](const char* flag) {
      const Value* value = entry.find(flag);
      return value != nullptr && *value == Value(true);
    };
    token.strips_left = is_set("lstrip");
    token.strips_right = is_set("rstrip");
    tokens.push_back(std::move(token));
  }
  return tokens;
}

/// The tokens of a folder that lists none.
std::vector<SpecialToken> usual_tokens(const Value& config, const Table& roles,
                                       const std::string& where) {
  const auto role = [&](const char* name, const char* otherwise) {
    const Value* text = roles.find(name);
    return text == nullptr ? std::string(otherwise) : text->as_string();
  };
  std::vector<SpecialToken> tokens = {
      {ByteTokenizer::kPad, role("pad_token", "<pad>"), true, true},
      {ByteTokenizer::kEnd, role("eos_token", "</s>"), true, true},
      {ByteTokenizer::kUnknown, role("unk_token", "<unk>"), true, true}};
  const Value* extra = config.find("extra_ids");
  const std::int64_t count = extra == nullptr ? kExtraIds : extra->as_int();
  if (count < 0 || count > 100'000)
    espalier::throw_bad_input("extra_ids is out of range", std::to_string(count), "0 to 100000",
                              where + ": extra_ids");
  for (std::int64_t i = 0; i < count; ++i)
    tokens.push_back({kFirstExtra + static_cast<std::int32_t>(i),
                      "<extra_id_" + std::to_string(i) + ">", false, false});
  return tokens;
}

class ByT5Format final : public espalier::TokenizerFormat {
 public:
  std::shared_ptr<const espalier::Tokenizer> open(
      const espalier::TokenizerFiles& files) const override {
    const std::string path = files.folder + "/tokenizer_config.json";
    const Value config = std::filesystem::exists(path)
                             ? espalier::read_json_file(path, {.allow_duplicate_keys = true})
                             : Value(Table());
    const Value* listed = config.find("added_tokens_decoder");
    return std::make_shared<ByteTokenizer>(listed != nullptr && listed->is_table()
                                               ? listed_tokens(*listed, path)
                                               : usual_tokens(config, files.special_tokens, path));
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar
      .add<espalier::TokenizerFormat, ByT5Format>(
          "byt5", "The bytes of UTF-8 as tokens, as ByT5 and its relatives have them.")
      .serves("tokenizer_classes", {"ByT5Tokenizer"})
      .property("lossless", true);
}

}  // namespace

ESPALIER_PLUGIN("espalier.byt5", "0.1.0", register_components)

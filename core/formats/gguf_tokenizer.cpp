#include "formats/gguf_tokenizer.h"

#include <simdjson.h>

#include <optional>
#include <string_view>
#include <unordered_map>

#include "espalier/base/json.h"
#include "formats/gguf_pre_tokenizer.h"

namespace espalier::formats {
namespace {

constexpr const char* kPrefix = "tokenizer.ggml.";

/// `tokenizer.ggml.token_type`.
enum class TokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

/// The vocabulary of the file, checked.
class Vocabulary {
 public:
  explicit Vocabulary(const GgufFile& file) : file_(file) {
    tokens_ = file.at(std::string(kPrefix) + "tokens").as_strings();
    if (const GgufValue* types = file.find(std::string(kPrefix) + "token_type")) {
      types_ = types->as_ints();
      if (types_.size() != tokens_.size()) {
        throw_bad_input("the list of token types does not fit the vocabulary",
                        std::to_string(types_.size()) + " types",
                        std::to_string(tokens_.size()) + " types", file.path());
      }
    }
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      if (!simdjson::validate_utf8(tokens_[id].data(), tokens_[id].size()))
        throw_bad_input("token " + std::to_string(id) + " is not UTF-8", {}, {}, file.path());
      if (is_padding(id)) continue;
      if (!ids_.emplace(tokens_[id], static_cast<std::int64_t>(id)).second) {
        throw_bad_input("a token appears twice in the vocabulary", std::string(tokens_[id]), {},
                        file.path());
      }
    }
  }

  std::size_t size() const { return tokens_.size(); }
  std::string_view token(std::size_t id) const { return tokens_[id]; }
  bool contains(std::string_view token) const { return ids_.contains(token); }
  TokenType type(std::size_t id) const {
    return types_.empty() ? TokenType::kNormal : static_cast<TokenType>(types_[id]);
  }
  bool is_special(std::size_t id) const {
    return type(id) == TokenType::kControl || type(id) == TokenType::kUnknown;
  }
  bool is_added(std::size_t id) const {
    return !is_padding(id) && (is_special(id) || type(id) == TokenType::kUserDefined);
  }
  /// Converters fill the vocabulary up to the rows of the embedding with "[PAD123]".
  bool is_padding(std::size_t id) const {
    return type(id) == TokenType::kUnused && tokens_[id] == "[PAD" + std::to_string(id) + "]";
  }
  /// The token whose id is under "<name>_token_id"; empty when the file does not say.
  std::optional<std::size_t> special_id(const std::string& name) const {
    const std::string key = kPrefix + name + "_token_id";
    const GgufValue* value = file_.find(key);
    if (value == nullptr) return std::nullopt;
    const std::int64_t id = value->as_int();
    if (id < 0 || id >= std::ssize(tokens_)) {
      throw_bad_input("the id of a special token is outside of the vocabulary", std::to_string(id),
                      "0 to " + std::to_string(std::ssize(tokens_) - 1),
                      file_.path() + ", key '" + key + "'");
    }
    return static_cast<std::size_t>(id);
  }

 private:
  const GgufFile& file_;
  std::vector<std::string_view> tokens_;
  std::vector<std::int64_t> types_;
  std::unordered_map<std::string_view, std::int64_t> ids_;
};

Table added_token(const Vocabulary& vocabulary, std::size_t id) {
  Table token;
  token.set("content", vocabulary.token(id));
  token.set("lstrip", false);
  token.set("normalized", false);
  token.set("rstrip", false);
  token.set("single_word", false);
  token.set("special", vocabulary.is_special(id));
  return token;
}

Value merges(const GgufFile& file, const Vocabulary& vocabulary) {
  Array pairs;
  for (const std::string_view merge : file.at(std::string(kPrefix) + "merges").as_strings()) {
    // Byte-level tokens hold no blank, except added ones, which take no part in merges.
    const std::size_t blank = merge.find(' ', 1);
    const std::string_view left = merge.substr(0, blank);
    const std::string_view right =
        blank == std::string_view::npos ? std::string_view() : merge.substr(blank + 1);
    if (right.empty() || !vocabulary.contains(left) || !vocabulary.contains(right) ||
        !vocabulary.contains(std::string(left) + std::string(right))) {
      throw_bad_input("a merge of the tokenizer does not fit its vocabulary", std::string(merge),
                      "two tokens that make a third one", file.path());
    }
    pairs.push_back(Array{left, right});
  }
  return pairs;
}

Value byte_level(bool trim_offsets) {
  Table table;
  table.set("type", "ByteLevel");
  table.set("add_prefix_space", true);
  table.set("trim_offsets", trim_offsets);
  table.set("use_regex", true);
  return table;
}

/// {"SpecialToken": {"id": text, "type_id": 0}} or {"Sequence": ...}
Value template_piece(std::string_view kind, std::string_view id) {
  Table inner;
  inner.set("id", id);
  inner.set("type_id", 0);
  Table piece;
  piece.set(kind, std::move(inner));
  return piece;
}

Value template_processing(const Vocabulary& vocabulary, std::optional<std::size_t> bos,
                          std::optional<std::size_t> eos) {
  Array single;
  Array pair;
  Table special_tokens;
  const auto add_special = [&](std::optional<std::size_t> id, Array& pieces) {
    if (!id) return;
    const std::string_view text = vocabulary.token(*id);
    pieces.push_back(template_piece("SpecialToken", text));
    Table token;
    token.set("id", text);
    token.set("ids", Array{static_cast<std::int64_t>(*id)});
    token.set("tokens", Array{text});
    special_tokens.set(text, std::move(token));
  };
  const auto add_text = [&](std::string_view id, Array& pieces) {
    add_special(bos, pieces);
    pieces.push_back(template_piece("Sequence", id));
    add_special(eos, pieces);
  };
  add_text("A", single);
  add_text("A", pair);
  add_text("B", pair);
  Table table;
  table.set("type", "TemplateProcessing");
  table.set("single", std::move(single));
  table.set("pair", std::move(pair));
  table.set("special_tokens", std::move(special_tokens));
  return table;
}

/// Byte-level offsets, and the tokens that the model wants around each text.
Value post_processor(const GgufFile& file, const Vocabulary& vocabulary, bool adds_bos) {
  const auto token_if = [&](const std::string& name, bool missing) -> std::optional<std::size_t> {
    const GgufValue* flag = file.find(kPrefix + ("add_" + name + "_token"));
    const bool wanted = flag == nullptr ? missing : flag->as_bool();
    return wanted ? vocabulary.special_id(name) : std::nullopt;
  };
  const auto bos = token_if("bos", adds_bos);
  const auto eos = token_if("eos", false);
  if (!bos && !eos) return byte_level(false);
  Table table;
  table.set("type", "Sequence");
  table.set("processors", Array{byte_level(false), template_processing(vocabulary, bos, eos)});
  return table;
}

Value tokenizer_json(const GgufFile& file, const Vocabulary& vocabulary,
                     const PreTokenizerLayout& layout) {
  Table tokens;
  Array added;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.is_padding(id)) continue;
    tokens.set(vocabulary.token(id), static_cast<std::int64_t>(id));
    if (!vocabulary.is_added(id)) continue;
    Table token;
    token.set("id", static_cast<std::int64_t>(id));
    for (auto& [key, value] : added_token(vocabulary, id)) token.set(key, value);
    added.push_back(std::move(token));
  }
  Table model;
  model.set("type", "BPE");
  for (const char* unset :
       {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"})
    model.set(unset, Value());
  model.set("fuse_unk", false);
  model.set("byte_fallback", false);
  model.set("ignore_merges", layout.ignore_merges);
  model.set("vocab", std::move(tokens));
  model.set("merges", merges(file, vocabulary));
  Table root;
  root.set("version", "1.0");
  root.set("truncation", Value());
  root.set("padding", Value());
  root.set("added_tokens", std::move(added));
  root.set("normalizer", layout.normalizer);
  root.set("pre_tokenizer", layout.pre_tokenizer);
  root.set("post_processor", post_processor(file, vocabulary, layout.adds_bos));
  root.set("decoder", byte_level(true));
  root.set("model", std::move(model));
  return root;
}

/// {"bos_token": "<s>", ...}
Table special_tokens_map(const Vocabulary& vocabulary) {
  static constexpr std::pair<const char*, const char*> kNames[] = {{"bos", "bos_token"},
                                                                   {"eos", "eos_token"},
                                                                   {"unknown", "unk_token"},
                                                                   {"padding", "pad_token"}};
  Table table;
  for (const auto& [gguf, name] : kNames) {
    if (const auto id = vocabulary.special_id(gguf)) table.set(name, vocabulary.token(*id));
  }
  return table;
}

std::optional<std::string> chat_template(const GgufFile& file) {
  const GgufValue* value = file.find("tokenizer.chat_template");
  if (value == nullptr) return std::nullopt;
  const std::string_view text = value->as_string();
  if (!simdjson::validate_utf8(text.data(), text.size()))
    throw_bad_input("the chat template is not UTF-8", {}, {}, file.path());
  return std::string(text);
}

Value tokenizer_config(const GgufFile& file, const Vocabulary& vocabulary) {
  Table added;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.is_added(id)) added.set(std::to_string(id), added_token(vocabulary, id));
  }
  Table config;
  config.set("add_prefix_space", false);
  config.set("added_tokens_decoder", std::move(added));
  config.set("clean_up_tokenization_spaces", false);
  const std::string architecture(file.at("general.architecture").as_string());
  if (const GgufValue* context = file.find(architecture + ".context_length"))
    config.set("model_max_length", context->as_int());
  config.set("tokenizer_class", "PreTrainedTokenizerFast");
  for (const auto& [name, token] : special_tokens_map(vocabulary)) config.set(name, token);
  if (const auto text = chat_template(file)) config.set("chat_template", *text);
  return config;
}

std::string pretty(const Value& value) { return dump_json(value, 2) + "\n"; }

Problem no_tokenizer(const GgufFile& file, std::string what, std::string found) {
  return {.code = ErrorCode::kUnsupported,
          .what = std::move(what),
          .found = std::move(found),
          .where = file.path(),
          .hint =
              "the weights are imported; copy tokenizer.json and tokenizer_config.json of the "
              "original model into the folder"};
}

}  // namespace

TokenizerImport map_gguf_tokenizer(const GgufFile& file) {
  TokenizerImport result;
  const GgufValue* model = file.find(std::string(kPrefix) + "model");
  if (model == nullptr) {
    result.warnings.push_back(no_tokenizer(file, "the file has no tokenizer", {}));
    return result;
  }
  if (model->as_string() != "gpt2") {
    Problem problem = no_tokenizer(file, "the tokenizer of this file is not supported",
                                   std::string(model->as_string()));
    problem.expected = "a byte-level BPE vocabulary (gpt2)";
    result.warnings.push_back(std::move(problem));
    return result;
  }
  const GgufValue* pre = file.find(std::string(kPrefix) + "pre");
  const std::string name(pre == nullptr ? "default" : pre->as_string());
  const auto layout = find_pre_tokenizer(name);
  if (!layout) {
    result.warnings.push_back(
        no_tokenizer(file, "the pre-tokenizer of this file is not known", name));
    return result;
  }
  if (name == "default") {
    result.warnings.push_back(
        {.what = "the file does not say how texts are split into words",
         .found = pre == nullptr ? "no tokenizer.ggml.pre" : "tokenizer.ggml.pre = default",
         .where = file.path(),
         .hint = "GPT-2's rule was taken; compare ids with the original tokenizer"});
  }
  const Vocabulary vocabulary(file);
  result.files["tokenizer.json"] = pretty(tokenizer_json(file, vocabulary, *layout));
  result.files["tokenizer_config.json"] = pretty(tokenizer_config(file, vocabulary));
  result.files["special_tokens_map.json"] = pretty(special_tokens_map(vocabulary));
  if (auto text = chat_template(file)) result.files["chat_template.jinja"] = std::move(*text);
  return result;
}

}  // namespace espalier::formats

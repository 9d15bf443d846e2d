#include "formats/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "formats/gguf_pre_tokenizer.h"

namespace espalier::formats {
namespace {

namespace fs = std::filesystem;

/// `tokenizer.ggml.token_type`.
enum TokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

constexpr const char* kSpace = "\xE2\x96\x81";  // U+2581, which SentencePiece writes for a blank
constexpr const char* kWithoutTokenizer =
    "export the weights alone with --no-tokenizer, and give llama.cpp token ids";

[[noreturn]] void refuse(std::string what, std::string found, std::string expected,
                         const std::string& where) {
  throw Error(Problem{.code = ErrorCode::kUnsupported,
                      .what = std::move(what),
                      .found = std::move(found),
                      .expected = std::move(expected),
                      .where = where,
                      .hint = kWithoutTokenizer});
}

std::string text_of(const Value& table, std::string_view key) {
  const Value* value = table.find(key);
  return value != nullptr && value->is_string() ? value->as_string() : std::string();
}

bool flag_of(const Value& table, std::string_view key) {
  const Value* value = table.find(key);
  return value != nullptr && value->is_bool() && value->as_bool();
}

/// The component itself, or those of a sequence.
std::vector<const Value*> parts_of(const Value* component, std::string_view list) {
  std::vector<const Value*> parts;
  if (component == nullptr || component->is_null()) return parts;
  const Value* members = component->find(list);
  if (members == nullptr || !members->is_array()) return {component};
  for (const Value& member : members->as_array()) parts.push_back(&member);
  return parts;
}

struct Merge {
  std::string left;
  std::string right;
};

class VocabularyWriter {
 public:
  VocabularyWriter(std::string folder, std::int64_t rows, GgufMetadata& metadata,
                   std::vector<Problem>& warnings)
      : folder_(std::move(folder)),
        where_((fs::path(folder_) / "tokenizer.json").string()),
        rows_(rows),
        metadata_(metadata),
        warnings_(warnings),
        root_(read_json_file(where_)),
        config_(optional_file("tokenizer_config.json")) {
    const Value* model = root_.find("model");
    if (model == nullptr || !model->is_table())
      throw_bad_input("the tokenizer has no model", {}, "an object 'model'", where_);
    model_ = model;
  }

  void write() {
    const bool bpe = text_of(*model_, "type") == "BPE" ||
                     (text_of(*model_, "type").empty() && model_->find("merges") != nullptr);
    const bool sentencepiece = bpe && flag_of(*model_, "byte_fallback");
    if (!sentencepiece && !(bpe && is_byte_level())) {
      refuse("GGUF has no name for tokenizers of this kind", text_of(*model_, "type"),
             "byte-level BPE, or BPE with byte fallback", where_);
    }
    read_tokens();
    if (sentencepiece)
      write_sentencepiece();
    else
      write_byte_level();
    write_special_tokens();
    write_chat_template();
  }

 private:
  Value optional_file(const std::string& name) const {
    const std::string path = (fs::path(folder_) / name).string();
    return fs::exists(path) ? read_json_file(path) : Value(Table());
  }

  void set_token(std::int64_t id, const std::string& text, std::int32_t type) {
    if (id < 0 || id >= rows_) {
      throw_bad_input("a token's id is beyond the rows of the embedding",
                      "'" + text + "' has id " + std::to_string(id),
                      "at most " + std::to_string(rows_ - 1), where_,
                      "the tokenizer belongs to another model");
    }
    tokens_[static_cast<std::size_t>(id)] = text;
    types_[static_cast<std::size_t>(id)] = type;
    ids_[text] = id;
  }

  void warn(std::string what, std::string found, std::string hint) const {
    warnings_.push_back({.what = std::move(what),
                         .found = std::move(found),
                         .where = where_,
                         .hint = std::move(hint)});
  }

  void read_tokens() {
    tokens_.resize(static_cast<std::size_t>(rows_));
    types_.assign(tokens_.size(), kUnused);
    for (std::size_t id = 0; id < tokens_.size(); ++id)
      tokens_[id] = "[PAD" + std::to_string(id) + "]";
    const Value* vocabulary = model_->find("vocab");
    if (vocabulary == nullptr || !vocabulary->is_table())
      throw_bad_input("the tokenizer has no vocabulary", {}, "an object 'vocab'", where_);
    for (const auto& [text, id] : vocabulary->as_table()) set_token(id.as_int(), text, kNormal);
    const Value* added = root_.find("added_tokens");
    if (added == nullptr || !added->is_array()) return;
    for (const Value& token : added->as_array()) {
      const Value* id = token.find("id");
      if (id == nullptr) continue;
      if (flag_of(token, "lstrip") || flag_of(token, "rstrip"))
        warn("GGUF does not say that a token takes the blanks beside it", text_of(token, "content"),
             "texts with blanks there get other ids");
      set_token(id->as_int(), text_of(token, "content"),
                flag_of(token, "special") ? kControl : kUserDefined);
    }
  }

  std::vector<Merge> merges() const {
    std::vector<Merge> merges;
    const Value* list = model_->find("merges");
    if (list == nullptr || !list->is_array())
      throw_bad_input("the tokenizer has no merges", {}, "a list 'merges'", where_);
    for (const Value& merge : list->as_array()) {
      if (merge.is_array() && merge.as_array().size() == 2) {
        merges.push_back({merge.as_array()[0].as_string(), merge.as_array()[1].as_string()});
      } else {
        const std::string& text = merge.as_string();
        const std::size_t blank = text.find(' ', 1);
        if (blank == std::string::npos)
          throw_bad_input("a merge is not two tokens", text, "two tokens", where_);
        merges.push_back({text.substr(0, blank), text.substr(blank + 1)});
      }
    }
    return merges;
  }

  bool is_byte_level() const {
    const auto parts = parts_of(root_.find("pre_tokenizer"), "pretokenizers");
    return std::any_of(parts.begin(), parts.end(),
                       [](const Value* part) { return text_of(*part, "type") == "ByteLevel"; });
  }

  void write_byte_level() {
    for (const char* unsupported : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!text_of(*model_, unsupported).empty())
        refuse("GGUF has no name for tokenizers of this kind", unsupported, "plain BPE", where_);
    }
    const Value none;
    const Value* normalizer = root_.find("normalizer");
    const auto name =
        name_pre_tokenizer(normalizer == nullptr ? none : *normalizer, *root_.find("pre_tokenizer"),
                           flag_of(*model_, "ignore_merges"));
    if (!name) {
      refuse("llama.cpp has no name for this way of splitting texts into words that is known here",
             dump_json(*root_.find("pre_tokenizer")), "that of a published tokenizer", where_);
    }
    if (normalizer != nullptr && text_of(*normalizer, "type") == "NFC")
      warn("llama.cpp does not normalise texts", "NFC", "texts that are not in NFC get other ids");
    metadata_.add_string("tokenizer.ggml.model", "gpt2");
    metadata_.add_string("tokenizer.ggml.pre", *name);
    metadata_.add_strings("tokenizer.ggml.tokens", tokens_);
    metadata_.add_ints("tokenizer.ggml.token_type", types_);
    std::vector<std::string> texts;
    for (const Merge& merge : merges()) texts.push_back(merge.left + " " + merge.right);
    metadata_.add_strings("tokenizer.ggml.merges", texts);
  }

  /// SentencePiece's BPE merges by the score of the result, tokenizer.json by the rank of the
  /// merge: the score is the rank of the first merge that gives the token, negated.
  void write_sentencepiece() {
    constexpr float kNeverMerged = -1e9F;
    const bool prefix = adds_space_prefix();
    std::vector<float> scores(tokens_.size(), kNeverMerged);
    std::int64_t rank = 0;
    for (const Merge& merge : merges()) {
      const auto found = ids_.find(merge.left + merge.right);
      if (found == ids_.end()) {
        throw_bad_input("a merge gives no token", merge.left + " " + merge.right,
                        "two tokens that make a third one", where_);
      }
      float& score = scores[static_cast<std::size_t>(found->second)];
      if (score == kNeverMerged) score = -static_cast<float>(rank);
      ++rank;
    }
    const std::string unknown = text_of(*model_, "unk_token");
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kUserDefined && is_byte(tokens_[id])) types_[id] = kByte;
      if (!unknown.empty() && tokens_[id] == unknown) types_[id] = kUnknown;
    }
    metadata_.add_string("tokenizer.ggml.model", "llama");
    metadata_.add_string("tokenizer.ggml.pre", "default");
    metadata_.add_strings("tokenizer.ggml.tokens", tokens_);
    metadata_.add_floats("tokenizer.ggml.scores", scores);
    metadata_.add_ints("tokenizer.ggml.token_type", types_);
    metadata_.add_bool("tokenizer.ggml.add_space_prefix", prefix);
    metadata_.add_bool("tokenizer.ggml.remove_extra_whitespaces", false);
  }

  static bool is_byte(const std::string& token) {
    unsigned byte = 0;
    return token.size() == 6 && std::sscanf(token.c_str(), "<0x%02X>", &byte) == 1 &&
           token.back() == '>';
  }

  /// Whether texts get a blank in front; refuses what SentencePiece does not do.
  bool adds_space_prefix() const {
    bool prefix = false;
    for (const Value* part : parts_of(root_.find("normalizer"), "normalizers")) {
      const std::string type = text_of(*part, "type");
      if (type == "Prepend" && text_of(*part, "prepend") == kSpace) {
        prefix = true;
      } else if (type != "Replace" || text_of(*part, "content") != kSpace) {
        refuse("GGUF has no name for this normalizer", dump_json(*part),
               "blanks become U+2581, with one in front or not", where_);
      }
    }
    for (const Value* part : parts_of(root_.find("pre_tokenizer"), "pretokenizers")) {
      const std::string type = text_of(*part, "type");
      const std::string scheme = text_of(*part, "prepend_scheme");
      if (type == "Metaspace") {
        prefix = scheme.empty() ? flag_of(*part, "add_prefix_space") : scheme != "never";
        if (prefix)
          warn("llama.cpp puts a blank in front of texts that begin with one, too", type,
               "such texts get another first id");
      } else if (type != "Split") {
        refuse("GGUF has no name for this pre-tokenizer", dump_json(*part), "Metaspace, or none",
               where_);
      }
    }
    return prefix;
  }

  /// The text of a special token: a string, or an object with its content.
  std::optional<std::int64_t> special_id(const std::string& name) const {
    const Value* value = config_.find(name);
    if (value == nullptr || value->is_null()) return std::nullopt;
    const std::string text = value->is_string() ? value->as_string() : text_of(*value, "content");
    const auto found = ids_.find(text);
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }

  void write_special_tokens() {
    static constexpr std::pair<const char*, const char*> kNames[] = {{"bos_token", "bos"},
                                                                     {"eos_token", "eos"},
                                                                     {"unk_token", "unknown"},
                                                                     {"pad_token", "padding"}};
    for (const auto& [name, key] : kNames) {
      if (const auto id = special_id(name))
        metadata_.add_uint32("tokenizer.ggml." + std::string(key) + "_token_id", *id);
    }
    metadata_.add_bool("tokenizer.ggml.add_bos_token", surrounds("bos_token", true));
    metadata_.add_bool("tokenizer.ggml.add_eos_token", surrounds("eos_token", false));
  }

  /// Whether the post-processor puts the token before (or behind) each text.
  bool surrounds(const std::string& name, bool front) const {
    const auto id = special_id(name);
    for (const Value* part : parts_of(root_.find("post_processor"), "processors")) {
      const Value* pieces = part->find("single");
      if (pieces == nullptr || !pieces->is_array() || pieces->as_array().empty()) continue;
      const Value& piece = front ? pieces->as_array().front() : pieces->as_array().back();
      const Value* token = piece.find_path("SpecialToken.id");
      if (token == nullptr) continue;
      const auto found = ids_.find(token->as_string());
      if (id && found != ids_.end() && found->second == *id) return true;
      refuse("the tokenizer puts a token around texts for which GGUF has no name",
             token->as_string(), "the " + name, where_);
    }
    return false;
  }

  void write_chat_template() {
    const fs::path file = fs::path(folder_) / "chat_template.jinja";
    std::string text = fs::exists(file) ? read_file(file.string()) : std::string();
    const Value* value = config_.find("chat_template");
    if (text.empty() && value != nullptr && value->is_string()) text = value->as_string();
    if (text.empty() && value != nullptr && value->is_array()) {
      for (const Value& named : value->as_array()) {
        if (text_of(named, "name") == "default") text = text_of(named, "template");
      }
    }
    if (!text.empty()) metadata_.add_string("tokenizer.chat_template", text);
  }

  std::string folder_;
  std::string where_;
  std::int64_t rows_;
  GgufMetadata& metadata_;
  std::vector<Problem>& warnings_;
  Value root_;
  Value config_;
  const Value* model_ = nullptr;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
  std::unordered_map<std::string, std::int64_t> ids_;
};

}  // namespace

void add_gguf_vocabulary(const std::string& folder, std::int64_t rows, GgufMetadata& metadata,
                         std::vector<Problem>& warnings) {
  if (fs::exists(fs::path(folder) / "tokenizer.json")) {
    VocabularyWriter(folder, rows, metadata, warnings).write();
    return;
  }
  for (const char* other : {"tokenizer.model", "vocab.json", "tekken.json", "vocab.txt"}) {
    if (fs::exists(fs::path(folder) / other)) {
      refuse("the folder has a tokenizer in another form than tokenizer.json", other,
             "tokenizer.json, which transformers' save_pretrained writes", folder);
    }
  }
  metadata.add_string("tokenizer.ggml.model", "no_vocab");
  warnings.push_back({.what = "the folder has no tokenizer",
                      .where = folder,
                      .hint = "the file has the weights alone: give llama.cpp token ids"});
}

}  // namespace espalier::formats

#include "text/tokenizer_loader.h"

#include <algorithm>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "text/conversion/conversions.h"
#include "text/conversion/sentencepiece_model.h"
#include "text/hf_tokenizer.h"
#include "text/json_node.h"
#include "text/special_tokens.h"

namespace espalier::text {
namespace {

namespace fs = std::filesystem;

TokenizerParts read_parts(const JsonNode& root) {
  if (!root.is_object()) root.fail("tokenizer.json holds no tokenizer", {}, "an object");
  const std::string version = root.string_or("version", "1.0");
  if (version != "1.0")
    root.at("version").fail("unknown version of tokenizer.json", version, "1.0");
  // Ignored, as by transformers: whoever asks for ids says how many he wants.
  for (const char* key : {"truncation", "padding"})
    if (const auto section = root.find(key); section && !section->is_object())
      section->fail("a value has the wrong type", simdjson::to_string(section->raw()), "an object");
  TokenizerParts parts;
  if (const auto section = root.find("normalizer")) parts.normalizer = make_normalizer(*section);
  if (const auto section = root.find("pre_tokenizer"))
    parts.pre_tokenizer = make_pre_tokenizer(*section);
  const bool byte_level = parts.pre_tokenizer && parts.pre_tokenizer->ends_byte_level();
  parts.model = make_model(root.at("model"), byte_level);
  if (byte_level && parts.model->takes_raw_bytes()) parts.pre_tokenizer->defer_bytes();
  if (const auto section = root.find("post_processor"))
    parts.post_processor = make_post_processor(*section);
  if (const auto section = root.find("decoder")) parts.decoder = make_decoder(*section);
  if (const auto section = root.find("added_tokens"))
    parts.added_vocabulary = AddedVocabulary(*section, *parts.model, parts.normalizer.get());
  return parts;
}

std::shared_ptr<HfTokenizer> parse(std::string_view json, const std::string& path) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const auto code = parser.parse(json.data(), json.size()).get(document);
  if (code != simdjson::SUCCESS)
    throw_bad_input("a file is no valid JSON", simdjson::error_message(code), {}, path);
  return std::make_shared<HfTokenizer>(read_parts(JsonNode(document, path, "")));
}

bool has(const std::string& folder, const char* name) {
  std::error_code ignored;
  return fs::exists(fs::path(folder) / name, ignored);
}

/// The one file in `folder` that ends in `.tiktoken`; "" when there is none or several.
std::string tiktoken_file(const std::string& folder) {
  std::string found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != ".tiktoken") continue;
    if (!found.empty()) return {};
    found = entry.path().filename().string();
  }
  return found;
}

/// A file that a tokenizer can be made of, in the order in which transformers looks for them.
std::string find_file(const std::string& folder) {
  for (const char* name : {"tokenizer.json", "tekken.json", "tokenizer.model", "spiece.model",
                           "sentencepiece.bpe.model"})
    if (has(folder, name)) return name;
  if (has(folder, "vocab.json") && has(folder, "merges.txt")) return "vocab.json";
  if (has(folder, "vocab.txt")) return "vocab.txt";
  return tiktoken_file(folder);
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string converted(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  const FolderConfig config(folder);
  if (name == "tekken.json") return convert_tekken(path, config);
  if (name == "vocab.json")
    return convert_vocabulary_and_merges(path, folder + "/merges.txt", config);
  if (name == "vocab.txt") return convert_word_list(path, config);
  const MappedFile file(path);
  const std::string_view bytes = text_of(file);
  return is_sentencepiece_model(bytes) ? convert_sentencepiece(bytes, path, config)
                                       : convert_tiktoken(bytes, path, config);
}

std::shared_ptr<HfTokenizer> load_file(const std::string& folder, const std::string& name) {
  if (name != "tokenizer.json") return parse(converted(folder, name), folder + "/" + name);
  const std::string path = folder + "/" + name;
  const MappedFile file(path);
  return parse(text_of(file), path);
}

}  // namespace

bool has_tokenizer(const std::string& folder) { return !find_file(folder).empty(); }

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& folder) {
  const std::string name = find_file(folder);
  if (name.empty())
    throw Error(Problem{ErrorCode::kIo,
                        "a folder holds no tokenizer",
                        {},
                        "tokenizer.json, tekken.json, tokenizer.model, vocab.json with merges.txt, "
                        "vocab.txt or one file that ends in .tiktoken",
                        folder,
                        {}});
  auto tokenizer = load_file(folder, name);
  const Table roles = read_special_tokens(folder);
  const auto id_of = [&](std::string_view role) {
    const Value* token = roles.find(role);
    return token == nullptr ? -1 : tokenizer->token_to_id(token->as_string());
  };
  tokenizer->set_special_token_ids(
      {id_of("bos_token"), id_of("eos_token"), id_of("pad_token"), id_of("unk_token")});
  return tokenizer;
}

}  // namespace espalier::text

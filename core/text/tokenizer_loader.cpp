#include "text/tokenizer_loader.h"

#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "text/hf_tokenizer.h"
#include "text/json_node.h"
#include "text/special_tokens.h"

namespace espalier::text {
namespace {

TokenizerParts read_parts(const JsonNode& root) {
  if (!root.is_object()) root.fail("tokenizer.json holds no tokenizer", {}, "an object");
  const std::string version = root.string_or("version", "1.0");
  if (version != "1.0")
    root.at("version").fail("unknown version of tokenizer.json", version, "1.0");
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

}  // namespace

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  const MappedFile file(path);
  const auto* bytes = reinterpret_cast<const char*>(file.bytes().data());
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const auto code = parser.parse(bytes, file.bytes().size()).get(document);
  if (code != simdjson::SUCCESS)
    throw_bad_input("a file is no valid JSON", simdjson::error_message(code), {}, path);
  auto tokenizer = std::make_shared<HfTokenizer>(read_parts(JsonNode(document, path, "")));

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

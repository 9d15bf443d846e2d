// Vocabularies in files of their own: vocab.json with merges.txt, and vocab.txt.
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "text/conversion/conversions.h"
#include "text/conversion/tokenizer_draft.h"

namespace espalier::text {
namespace {

std::string_view next_line(std::string_view text, std::size_t& at) {
  const std::size_t end = std::min(text.find('\n', at), text.size());
  const std::string_view line = text.substr(at, end - at);
  at = end + 1;
  return line;
}

Value byte_level(bool prefix, bool use_regex) {
  return typed("ByteLevel",
               {{"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", use_regex}});
}

void read_vocabulary(const std::string& path, TokenizerDraft& draft) {
  const Value vocabulary = read_json_file(path, {.allow_duplicate_keys = true});
  if (!vocabulary.is_table())
    throw_bad_input("a vocabulary has the wrong type", {}, "an object of tokens and ids", path);
  for (const auto& [token, id] : vocabulary.as_table()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= INT32_MAX)
      throw_bad_input("a token has no usable id", dump_json(id).substr(0, 60),
                      "an integer from 0 on", path + ": " + token);
    draft.add(token, static_cast<std::int32_t>(id.as_int()));
  }
}

void read_merges(const std::string& path, TokenizerDraft& draft) {
  const std::string text = read_file(path);
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::string_view line = next_line(text, at);
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const std::size_t space = line.find(' ');
    const auto fail = [&](const std::string& what, std::string_view found) {
      throw_bad_input(what, std::string(found), "two tokens of the vocabulary with a space between",
                      path + ":" + std::to_string(number));
    };
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
      fail("a line is no merge", line);
    const std::string_view left = line.substr(0, space);
    const std::string_view right = line.substr(space + 1);
    for (const std::string_view token : {left, right})
      if (draft.id_of(token) < 0)
        fail("a merge names a token that is not in the vocabulary", token);
    draft.add_merge(left, right);
  }
}

}  // namespace

std::string convert_vocabulary_and_merges(const std::string& vocabulary, const std::string& merges,
                                          const FolderConfig& config) {
  TokenizerDraft draft;
  read_vocabulary(vocabulary, draft);
  read_merges(merges, draft);
  draft.model = typed("BPE");
  const std::string& name = config.tokenizer_class();
  const bool roberta = name == "RobertaTokenizer" || name == "BartTokenizer";
  const bool prefix = config.flag("add_prefix_space", false);
  draft.decoder = byte_level(true, true);
  const char* end_of_text = "<|endoftext|>";
  const char* bos = end_of_text;
  const char* eos = end_of_text;
  const char* unknown = end_of_text;
  if (name == "Qwen2Tokenizer") {
    bos = "";
    draft.normalizer = typed("NFC");
    constexpr const char* kExpression =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    const Value split = typed("Split", {{"pattern", table_of({{"Regex", kExpression}})},
                                        {"behavior", "Isolated"},
                                        {"invert", false}});
    draft.pre_tokenizer =
        typed("Sequence", {{"pretokenizers", Array{split, byte_level(prefix, false)}}});
  } else {
    draft.pre_tokenizer = byte_level(prefix, true);
  }
  if (roberta) {
    bos = "<s>";
    eos = "</s>";
    unknown = "<unk>";
  }
  for (const auto& [id, token] : config.added_tokens()) draft.add_token(token);
  const std::string first = config.token("bos_token", bos);
  const std::string last = config.token("eos_token", eos);
  draft.add_token(first, true);
  draft.add_token(last, true);
  draft.add_token(config.token("unk_token", unknown), true);
  for (const auto& [role, fallback] :
       {std::pair{"sep_token", "</s>"}, {"pad_token", "<pad>"}, {"cls_token", "<s>"}})
    draft.add_token(config.token(role, roberta ? fallback : ""), true);
  if (roberta) {
    const std::string cls = config.token("cls_token", "<s>");
    const std::string sep = config.token("sep_token", "</s>");
    const auto with_id = [&](const std::string& token) {
      return Array{Value(token), Value(std::int64_t{draft.id_of(token)})};
    };
    draft.post_processor = typed("RobertaProcessing", {{"sep", with_id(sep)},
                                                       {"cls", with_id(cls)},
                                                       {"trim_offsets", true},
                                                       {"add_prefix_space", prefix}});
  } else if (config.flag("add_bos_token", false) || config.flag("add_eos_token", false)) {
    draft.wrap_texts(config.flag("add_bos_token", false) ? first : "",
                     config.flag("add_eos_token", false) ? last : "");
  }
  return draft.json();
}

std::string convert_word_list(const std::string& path, const FolderConfig& config) {
  TokenizerDraft draft;
  const std::string text = read_file(path);
  for (std::size_t at = 0; at < text.size();) {
    std::string_view line = next_line(text, at);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    draft.add(line, static_cast<std::int32_t>(draft.size()));
  }
  const std::string unknown = config.token("unk_token", "[UNK]");
  if (draft.id_of(unknown) < 0)
    throw_bad_input("a word list lacks the unknown token", {}, unknown, path);
  draft.model = typed("WordPiece", {{"unk_token", unknown},
                                    {"continuing_subword_prefix", "##"},
                                    {"max_input_chars_per_word", 100}});
  const bool lowercase = config.flag("do_lower_case", true);
  draft.normalizer = typed("BertNormalizer",
                           {{"clean_text", true},
                            {"handle_chinese_chars", config.flag("tokenize_chinese_chars", true)},
                            {"strip_accents", config.flag("strip_accents", lowercase)},
                            {"lowercase", lowercase}});
  draft.pre_tokenizer = typed("BertPreTokenizer");
  draft.decoder = typed("WordPiece", {{"prefix", "##"}, {"cleanup", true}});
  for (const auto& [id, token] : config.added_tokens()) draft.add_token(token);
  const std::string cls = config.token("cls_token", "[CLS]");
  const std::string sep = config.token("sep_token", "[SEP]");
  draft.add_token(unknown, true);
  draft.add_token(sep, true);
  draft.add_token(config.token("pad_token", "[PAD]"), true);
  draft.add_token(cls, true);
  draft.add_token(config.token("mask_token", "[MASK]"), true);
  const auto special = [&](const std::string& token, std::int64_t type_id) {
    return Value(table_of({{"SpecialToken", table_of({{"id", token}, {"type_id", type_id}})}}));
  };
  const auto sequence = [&](const char* id, std::int64_t type_id) {
    return Value(table_of({{"Sequence", table_of({{"id", id}, {"type_id", type_id}})}}));
  };
  Table special_tokens;
  for (const std::string& token : {cls, sep})
    special_tokens.set(token, table_of({{"id", token},
                                        {"ids", Array{Value(std::int64_t{draft.id_of(token)})}},
                                        {"tokens", Array{Value(token)}}}));
  draft.post_processor = typed(
      "TemplateProcessing", {{"single", Array{special(cls, 0), sequence("A", 0), special(sep, 0)}},
                             {"pair", Array{special(cls, 0), sequence("A", 0), special(sep, 0),
                                            sequence("B", 1), special(sep, 1)}},
                             {"special_tokens", special_tokens}});
  return draft.json();
}

}  // namespace espalier::text

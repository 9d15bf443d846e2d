// Vocabularies of bytes with ranks (tiktoken, tekken) as a byte-level BPE: a token's rank is that
// of all merges that make it.
#include <algorithm>
#include <charconv>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "text/base64.h"
#include "text/byte_alphabet.h"
#include "text/conversion/conversions.h"
#include "text/conversion/tokenizer_draft.h"

namespace espalier::text {
namespace {

/// The split expression of files that bring none.
const char* const kDefaultExpression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Tokens by rank as ids from `first_id` on.
void add_ranked_tokens(const std::vector<std::pair<std::string, std::int32_t>>& tokens,
                       std::int32_t first_id, TokenizerDraft& draft) {
  StringMap ranks;
  for (const auto& [token, rank] : tokens) ranks.set(token, rank);
  for (const auto& [token, rank] : tokens) draft.add(to_byte_level(token), first_id + rank);
  struct Cut {
    std::int32_t left;
    std::int32_t right;
    std::size_t at;
  };
  std::vector<Cut> cuts;
  for (const auto& [token, rank] : tokens) {
    cuts.clear();
    const std::string_view view = token;
    for (std::size_t at = 1; at < view.size(); ++at) {
      const std::int32_t left = ranks.find(view.substr(0, at));
      const std::int32_t right = left < 0 ? -1 : ranks.find(view.substr(at));
      if (right >= 0) cuts.push_back({left, right, at});
    }
    std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
    for (const Cut& cut : cuts)
      draft.add_merge(to_byte_level(view.substr(0, cut.at)), to_byte_level(view.substr(cut.at)));
  }
}

void set_byte_level(TokenizerDraft& draft, const std::string& expression) {
  draft.model = typed("BPE", {{"ignore_merges", true}});
  const auto byte_level = [](bool use_regex, bool trim) {
    return typed("ByteLevel",
                 {{"add_prefix_space", false}, {"trim_offsets", trim}, {"use_regex", use_regex}});
  };
  const Value split = typed("Split", {{"pattern", table_of({{"Regex", expression}})},
                                      {"behavior", "Isolated"},
                                      {"invert", false}});
  draft.pre_tokenizer =
      typed("Sequence", {{"pretokenizers", Array{split, byte_level(false, true)}}});
  draft.decoder = byte_level(true, true);
  draft.post_processor = byte_level(true, false);
}

std::string_view next_line(std::string_view text, std::size_t& at) {
  const std::size_t end = std::min(text.find('\n', at), text.size());
  std::string_view line = text.substr(at, end - at);
  at = end + 1;
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// Reads tekken.json; every mistake names its key.
class TekkenFile {
 public:
  explicit TekkenFile(const std::string& path) : path_(path), file_(read_json_file(path)) {}

  std::string pattern() const { return text(section("config"), "pattern", "config"); }

  /// By id. Ids that no token is declared for get names of their own.
  std::vector<std::string> special_tokens() const {
    std::vector<std::string> names;
    if (const Value* list = file_.is_table() ? file_.find("special_tokens") : nullptr;
        list != nullptr && list->is_array()) {
      names.resize(list->as_array().size());
      for (const Value& entry : list->as_array()) {
        const std::int64_t rank = number(entry, "rank", "special_tokens");
        if (rank < 0 || rank >= static_cast<std::int64_t>(names.size()) ||
            !names[static_cast<std::size_t>(rank)].empty())
          fail("special_tokens", "rank " + std::to_string(rank), "ranks from 0 on, each once");
        names[static_cast<std::size_t>(rank)] = text(entry, "token_str", "special_tokens");
      }
    } else {
      names = {"<unk>",
               "<s>",
               "</s>",
               "[INST]",
               "[/INST]",
               "[AVAILABLE_TOOLS]",
               "[/AVAILABLE_TOOLS]",
               "[TOOL_RESULTS]",
               "[/TOOL_RESULTS]",
               "[TOOL_CALLS]",
               "[IMG]",
               "<pad>",
               "[IMG_BREAK]",
               "[IMG_END]",
               "[PREFIX]",
               "[MIDDLE]",
               "[SUFFIX]",
               "[SYSTEM_PROMPT]",
               "[/SYSTEM_PROMPT]",
               "[TOOL_CONTENT]"};
    }
    const Value* count = section("config").find("default_num_special_tokens");
    const std::int64_t wanted = count != nullptr && count->is_int() ? count->as_int() : 0;
    constexpr std::int64_t kMost = 1'000'000;
    if (wanted > kMost) fail("config.default_num_special_tokens", std::to_string(wanted), "fewer");
    while (static_cast<std::int64_t>(names.size()) < wanted)
      names.push_back("<SPECIAL_" + std::to_string(names.size()) + ">");
    return names;
  }

  std::vector<std::pair<std::string, std::int32_t>> tokens(std::size_t specials) const {
    const Value* list = file_.find("vocab");
    if (list == nullptr || !list->is_array()) fail("vocab", "no list", "a list of tokens");
    std::size_t count = list->as_array().size();
    const Value* size = section("config").find("default_vocab_size");
    if (size != nullptr && size->is_int()) {
      const std::int64_t most = size->as_int() - static_cast<std::int64_t>(specials);
      if (most < 0) fail("config.default_vocab_size", std::to_string(size->as_int()), "more");
      count = std::min(count, static_cast<std::size_t>(most));
    }
    std::vector<std::pair<std::string, std::int32_t>> tokens;
    tokens.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      const Value& entry = list->as_array()[i];
      const std::string place = "vocab[" + std::to_string(i) + "]";
      const auto bytes = decode_base64(text(entry, "token_bytes", place));
      if (!bytes || bytes->empty()) fail(place, "token_bytes", "base64 of a byte at least");
      const std::int64_t rank = number(entry, "rank", place);
      if (rank != static_cast<std::int64_t>(i))
        fail(place, "rank " + std::to_string(rank), std::to_string(i));
      tokens.emplace_back(*bytes, static_cast<std::int32_t>(i));
    }
    return tokens;
  }

 private:
  [[noreturn]] void fail(const std::string& key, const std::string& found,
                         const std::string& expected) const {
    throw_bad_input("a tekken file is damaged", found, expected, path_ + ": " + key);
  }
  const Value& section(std::string_view key) const {
    const Value* value = file_.is_table() ? file_.find(key) : nullptr;
    if (value == nullptr || !value->is_table()) fail(std::string(key), "nothing", "an object");
    return *value;
  }
  std::string text(const Value& entry, std::string_view key, const std::string& place) const {
    const Value* value = entry.is_table() ? entry.find(key) : nullptr;
    if (value == nullptr || !value->is_string())
      fail(place + "." + std::string(key), "no string", "a string");
    return value->as_string();
  }
  std::int64_t number(const Value& entry, std::string_view key, const std::string& place) const {
    const Value* value = entry.is_table() ? entry.find(key) : nullptr;
    if (value == nullptr || !value->is_int())
      fail(place + "." + std::string(key), "no integer", "an integer");
    return value->as_int();
  }

  std::string path_;
  Value file_;
};

}  // namespace

std::string convert_tekken(const std::string& path, const FolderConfig& config) {
  const TekkenFile file(path);
  const std::vector<std::string> specials = file.special_tokens();
  TokenizerDraft draft;
  set_byte_level(draft, file.pattern());
  add_ranked_tokens(file.tokens(specials.size()), static_cast<std::int32_t>(specials.size()),
                    draft);
  for (std::size_t id = 0; id < specials.size(); ++id) {
    draft.add(specials[id], static_cast<std::int32_t>(id));
    draft.add_token(specials[id], true);
  }
  // As mistral-common: the special tokens of a text begin with BOS.
  if (config.flag("add_bos_token", true) && draft.id_of("<s>") >= 0) draft.wrap_texts("<s>", "");
  return draft.json();
}

std::string convert_tiktoken(std::string_view text, const std::string& where,
                             const FolderConfig& config) {
  std::vector<std::pair<std::string, std::int32_t>> tokens;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view line = next_line(text, at);
    ++number;
    if (line.empty()) continue;
    const std::size_t space = std::min(line.find(' '), line.size() - 1);
    const auto bytes = decode_base64(line.substr(0, space));
    std::int32_t rank = -1;
    const auto parsed = std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
    if (!bytes || bytes->empty() || parsed.ec != std::errc() ||
        parsed.ptr != line.data() + line.size() || rank < 0)
      throw_bad_input("a line holds no token with its rank", std::string(line.substr(0, 60)),
                      "base64, a space and a number", where + ":" + std::to_string(number),
                      "the file has to be a SentencePiece model or ranks of tiktoken");
    tokens.emplace_back(*bytes, rank);
  }
  if (tokens.empty())
    throw_bad_input("a file holds no tokens", {}, "lines of base64 and rank", where);
  TokenizerDraft draft;
  set_byte_level(draft, kDefaultExpression);
  add_ranked_tokens(tokens, 0, draft);
  // Ids between the ranks and the last added token are filled up.
  const auto added = config.added_tokens();
  auto next = static_cast<std::int64_t>(tokens.size());
  for (const auto& [id, token] : added) {
    if (id < static_cast<std::int64_t>(tokens.size())) continue;
    for (; next < id; ++next)
      draft.add_token("<|reserved_token_" + std::to_string(next) + "|>", true);
    draft.add_token(token);
    ++next;
  }
  for (const char* role : {"bos_token", "eos_token", "unk_token", "pad_token"})
    draft.add_token(config.token(role, ""), true);
  if (config.flag("add_bos_token", false) || config.flag("add_eos_token", false))
    draft.wrap_texts(config.flag("add_bos_token", false) ? config.token("bos_token", "") : "",
                     config.flag("add_eos_token", false) ? config.token("eos_token", "") : "");
  return draft.json();
}

}  // namespace espalier::text

#include "text/tokenize_lines.h"

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier::text {
namespace {

[[noreturn]] void fail_without_key(std::string_view line, const std::string& key,
                                   const std::string& where) {
  throw_bad_input("a line lacks its key", std::string(line.substr(0, 80)),
                  "an object with \"" + key + "\"", where);
}

Encoding encode_line(const Tokenizer& tokenizer, std::string_view line, bool add_special_tokens,
                     const std::string& where, bool& is_pair) {
  const Value value = parse_json(line, {.file = where});
  const Value* text = value.find("text");
  if (text == nullptr) fail_without_key(line, "text", where);
  const Value* second = value.find("pair");
  is_pair = second != nullptr && !second->is_null();
  return is_pair ? tokenizer.encode_pair(text->as_string(), second->as_string(), add_special_tokens)
                 : tokenizer.encode_with_offsets(text->as_string(), add_special_tokens);
}

std::vector<std::int32_t> read_ids(std::string_view line, const std::string& where) {
  const Value value = parse_json(line, {.file = where});
  const Value* list = value.find("ids");
  if (list == nullptr) fail_without_key(line, "ids", where);
  std::vector<std::int32_t> ids;
  for (const Value& item : list->as_array()) {
    const std::int64_t id = item.as_int();
    if (id < 0 || id > INT32_MAX)
      throw_bad_input("an id is out of range", std::to_string(id), "0 to 2147483647", where);
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

}  // namespace

std::string tokenize_line(const Tokenizer& tokenizer, std::string_view line,
                          bool add_special_tokens, const std::string& where) {
  bool is_pair = false;
  const Encoding encoding = encode_line(tokenizer, line, add_special_tokens, where, is_pair);
  Array ids;
  Array tokens;
  Array offsets;
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    ids.emplace_back(static_cast<std::int64_t>(encoding.ids[i]));
    tokens.emplace_back(encoding.tokens[i]);
    offsets.emplace_back(
        Array{Value(encoding.offsets[i].first), Value(encoding.offsets[i].second)});
  }
  Table out;
  out.set("ids", std::move(ids));
  out.set("tokens", std::move(tokens));
  out.set("offsets", std::move(offsets));
  if (is_pair) {
    Array type_ids;
    for (const std::int32_t id : encoding.type_ids) type_ids.emplace_back(std::int64_t{id});
    out.set("type_ids", std::move(type_ids));
  }
  return dump_json(out);
}

std::string detokenize_line(const Tokenizer& tokenizer, std::string_view line,
                            bool skip_special_tokens, const std::string& where) {
  Table out;
  out.set("text", tokenizer.decode(read_ids(line, where), skip_special_tokens));
  return dump_json(out);
}

std::string tokenize_line_readably(const Tokenizer& tokenizer, std::string_view line,
                                   bool add_special_tokens, const std::string& where) {
  bool is_pair = false;
  const Encoding encoding = encode_line(tokenizer, line, add_special_tokens, where, is_pair);
  std::string out = std::to_string(encoding.ids.size()) + " tokens";
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    std::string id = std::to_string(encoding.ids[i]);
    id.insert(0, id.size() < 8 ? 8 - id.size() : 0, ' ');
    out += "\n" + id + "  " + dump_json(Value(encoding.tokens[i])) + "  " +
           std::to_string(encoding.offsets[i].first) + "-" +
           std::to_string(encoding.offsets[i].second);
  }
  return out;
}

std::string detokenize_line_readably(const Tokenizer& tokenizer, std::string_view line,
                                     bool skip_special_tokens, const std::string& where) {
  return tokenizer.decode(read_ids(line, where), skip_special_tokens);
}

}  // namespace espalier::text

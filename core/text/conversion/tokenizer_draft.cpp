#include "text/conversion/tokenizer_draft.h"

#include <algorithm>

#include "espalier/base/json.h"
#include "espalier/base/utf8.h"

namespace espalier::text {
namespace {

void append_string(std::string& out, std::string_view text) {
  constexpr const char* kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      out += std::string("\\u00") + kHex[byte >> 4U] + kHex[byte & 15U];
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

Value special_piece(const std::string& token, std::int64_t type_id) {
  return table_of({{"SpecialToken", table_of({{"id", token}, {"type_id", type_id}})}});
}

Value sequence_piece(const char* name, std::int64_t type_id) {
  return table_of({{"Sequence", table_of({{"id", name}, {"type_id", type_id}})}});
}

}  // namespace

Table table_of(Members members) {
  Table out;
  for (const auto& [key, value] : members) out.set(key, value);
  return out;
}

Table typed(std::string_view type, Members members) {
  Table out;
  out.set("type", std::string(type));
  for (const auto& [key, value] : members) out.set(key, value);
  return out;
}

void TokenizerDraft::add(std::string_view token, std::int32_t id, double score) {
  const std::string valid = is_valid_utf8(token) ? std::string(token) : replace_invalid_utf8(token);
  ids_.set(valid, id);
  entries_.push_back({valid, id, score});
  next_id_ = std::max(next_id_, id + 1);
}

void TokenizerDraft::add_token(const Table& flags) {
  const std::string content = flags.find("content")->as_string();
  for (const Value& known : added_)
    if (known.find("content")->as_string() == content) return;
  std::int32_t id = id_of(content);
  if (id < 0) {
    id = next_id_++;
    ids_.set(content, id);
  }
  const auto flag = [&](std::string_view key) {
    const Value* value = flags.find(key);
    return value != nullptr && value->is_bool() && value->as_bool();
  };
  Table token = table_of({{"id", std::int64_t{id}}, {"content", content}});
  for (const char* key : {"single_word", "lstrip", "rstrip", "normalized", "special"})
    token.set(key, flag(key));
  added_.emplace_back(std::move(token));
}

void TokenizerDraft::add_token(const std::string& token, bool special, bool normalized) {
  if (!token.empty())
    add_token(table_of({{"content", token}, {"special", special}, {"normalized", normalized}}));
}

void TokenizerDraft::wrap_texts(const std::string& before, const std::string& behind) {
  Array single;
  Array pair;
  Table special_tokens;
  for (const std::int64_t type_id : {0, 1}) {
    const auto put = [&](const Value& piece) {
      if (type_id == 0) single.push_back(piece);
      pair.push_back(piece);
    };
    if (!before.empty()) put(special_piece(before, type_id));
    put(sequence_piece(type_id == 0 ? "A" : "B", type_id));
    if (!behind.empty()) put(special_piece(behind, type_id));
  }
  for (const std::string& token : {before, behind})
    if (!token.empty())
      special_tokens.set(token, table_of({{"id", token},
                                          {"ids", Array{Value(std::int64_t{id_of(token)})}},
                                          {"tokens", Array{Value(token)}}}));
  post_processor = typed("TemplateProcessing", {{"single", std::move(single)},
                                                {"pair", std::move(pair)},
                                                {"special_tokens", std::move(special_tokens)}});
}

std::string TokenizerDraft::json() const {
  std::string out = R"({"version": "1.0", "added_tokens": )" + dump_json(added_);
  out += R"(, "normalizer": )" + dump_json(normalizer);
  out += R"(, "pre_tokenizer": )" + dump_json(pre_tokenizer);
  out += R"(, "post_processor": )" + dump_json(post_processor);
  out += R"(, "decoder": )" + dump_json(decoder);
  const std::string settings = dump_json(model);
  const bool scored = model.find("type")->as_string() == "Unigram";
  out += R"(, "model": )" + settings.substr(0, settings.size() - 1) + R"(, "vocab": )";
  out += scored ? '[' : '{';
  bool first = true;
  for (const Entry& entry : entries_) {
    if (!scored && ids_.find(entry.token) != entry.id) continue;
    out += first ? "" : ", ";
    first = false;
    if (scored) out += '[';
    append_string(out, entry.token);
    out += scored ? ", " + dump_json(Value(entry.score)) + "]" : ": " + std::to_string(entry.id);
  }
  out += scored ? ']' : '}';
  if (!scored && model.find("type")->as_string() == "BPE") {
    out += R"(, "merges": [)";
    for (const auto& [left, right] : merges_) {
      out += &left == &merges_.front().first ? "[" : ", [";
      append_string(out, left);
      out += ", ";
      append_string(out, right);
      out += ']';
    }
    out += ']';
  }
  return out + "}}";
}

}  // namespace espalier::text

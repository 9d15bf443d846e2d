#include "byte_tokenizer.h"

#include <algorithm>

#include "espalier/base/utf8.h"

namespace {

using espalier::Encoding;

/// What Python's str.strip takes away.
bool is_blank(char32_t point) {
  return (point >= 0x09 && point <= 0x0D) || (point >= 0x1C && point <= 0x20) || point == 0x85 ||
         point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) ||
         point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F ||
         point == 0x3000;
}

std::string_view without_blanks_at_end(std::string_view text) {
  while (!text.empty()) {
    const std::size_t start = espalier::previous_boundary(text, text.size());
    std::size_t at = start;
    if (!is_blank(espalier::next_code_point(text, at))) break;
    text = text.substr(0, start);
  }
  return text;
}

/// Bytes of the blanks that `text` begins with from `at` on.
std::size_t blanks_at(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size()) {
    std::size_t next = end;
    if (!is_blank(espalier::next_code_point(text, next))) break;
    end = next;
  }
  return end - at;
}

/// The well-formed characters of `bytes`; the others are left out.
std::string well_formed(std::string_view bytes) {
  if (espalier::is_valid_utf8(bytes)) return std::string(bytes);
  std::string text;
  for (std::size_t at = 0; at < bytes.size();) {
    std::size_t length = 1;
    while (length <= 4 && !espalier::is_valid_utf8(bytes.substr(at, length))) ++length;
    const bool found = length <= 4 && at + length <= bytes.size();
    if (found) text += bytes.substr(at, length);
    at += found ? length : 1;
  }
  return text;
}

}  // namespace

ByteTokenizer::ByteTokenizer(std::vector<SpecialToken> specials) {
  vocab_size_ = kFirstByte + kByteCount;
  for (SpecialToken& special : specials) {
    vocab_size_ = std::max<std::int64_t>(vocab_size_, special.id + 1);
    specials_.emplace(special.id, std::move(special));
  }
  for (const auto& [id, special] : specials_) longest_first_.push_back(&special);
  std::stable_sort(longest_first_.begin(), longest_first_.end(),
                   [](const auto* a, const auto* b) { return a->text.size() > b->text.size(); });
}

const SpecialToken* ByteTokenizer::special_at(std::string_view text, std::size_t at) const {
  for (const SpecialToken* special : longest_first_) {
    if (text.substr(at).starts_with(special->text)) return special;
  }
  return nullptr;
}

void ByteTokenizer::append_bytes(std::string_view text, std::int64_t first_point,
                                 Encoding& encoding) const {
  std::int64_t point = first_point - 1;
  for (const char c : text) {
    if (!espalier::is_utf8_continuation(c)) ++point;
    const std::int32_t id = kFirstByte + static_cast<unsigned char>(c);
    encoding.ids.push_back(id);
    encoding.tokens.push_back(id_to_token(id));
    encoding.offsets.emplace_back(point, point + 1);
  }
}

Encoding ByteTokenizer::encode_with_offsets(std::string_view raw, bool add_special_tokens) const {
  const std::string text = espalier::replace_invalid_utf8(raw);
  const auto points = [&](std::size_t begin, std::size_t end) {
    return static_cast<std::int64_t>(
        espalier::count_code_points(std::string_view(text).substr(begin, end - begin)));
  };
  Encoding encoding;
  std::size_t plain = 0;         // where the bytes begin that no special token has
  std::int64_t plain_point = 0;  // the same in code points
  const auto flush = [&](std::size_t end, bool strip) {
    std::string_view part = std::string_view(text).substr(plain, end - plain);
    if (strip) part = without_blanks_at_end(part);
    append_bytes(part, plain_point, encoding);
    plain_point += points(plain, end);
    plain = end;
  };
  for (std::size_t at = 0; at < text.size();) {
    const SpecialToken* special = special_at(text, at);
    if (special == nullptr) {
      ++at;
      continue;
    }
    flush(at, special->strips_left);
    encoding.ids.push_back(special->id);
    encoding.tokens.push_back(special->text);
    at += special->text.size();
    const std::int64_t length = points(plain, at);
    encoding.offsets.emplace_back(plain_point, plain_point + length);
    if (special->strips_right) at += blanks_at(text, at);
    plain_point += points(plain, at);
    plain = at;
  }
  flush(text.size(), false);
  if (add_special_tokens && (encoding.ids.empty() || encoding.ids.back() != kEnd)) {
    encoding.ids.push_back(kEnd);
    encoding.tokens.push_back(id_to_token(kEnd));
    encoding.offsets.emplace_back(0, 0);
  }
  encoding.type_ids.assign(encoding.ids.size(), 0);
  return encoding;
}

std::vector<std::int32_t> ByteTokenizer::encode(std::string_view text,
                                                bool add_special_tokens) const {
  return encode_with_offsets(text, add_special_tokens).ids;
}

Encoding ByteTokenizer::encode_pair(std::string_view first, std::string_view second,
                                    bool add_special_tokens) const {
  Encoding pair = Tokenizer::encode_pair(first, second, add_special_tokens);
  pair.type_ids.assign(pair.ids.size(), 0);  // ByT5 tells the two apart by </s> alone
  return pair;
}

std::string ByteTokenizer::decode(const std::vector<std::int32_t>& ids,
                                  bool skip_special_tokens) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    if (id >= kFirstByte && id < kFirstByte + kByteCount)
      bytes += static_cast<char>(id - kFirstByte);
    else if (const auto special = specials_.find(id);
             special != specials_.end() && !skip_special_tokens)
      bytes += special->second.text;
  }
  return well_formed(bytes);
}

std::int32_t ByteTokenizer::token_to_id(std::string_view token) const {
  for (const auto& [id, special] : specials_) {
    if (special.text == token) return id;
  }
  if (token.empty() || !espalier::is_valid_utf8(token)) return -1;
  std::size_t at = 0;
  const char32_t point = espalier::next_code_point(token, at);
  return at == token.size() && point < kByteCount ? kFirstByte + static_cast<std::int32_t>(point)
                                                  : -1;
}

std::string ByteTokenizer::id_to_token(std::int32_t id) const {
  if (const auto special = specials_.find(id); special != specials_.end())
    return special->second.text;
  std::string token;
  if (id >= kFirstByte && id < kFirstByte + kByteCount)
    espalier::append_utf8(token, static_cast<char32_t>(id - kFirstByte));
  return token;
}

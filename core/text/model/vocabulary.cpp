#include "text/model/vocabulary.h"

#include "text/byte_alphabet.h"

namespace espalier::text {

Vocabulary::Vocabulary(const JsonNode& section, bool raw_bytes) : raw_bytes_(raw_bytes) {
  simdjson::dom::object object;
  if (section.raw().get(object) != simdjson::SUCCESS)
    section.fail("a value has the wrong type", {}, "an object of tokens and ids");
  std::size_t count = 0;
  std::size_t bytes = 0;
  for (const auto [token, id] : object) {
    ++count;
    bytes += token.size();
  }
  // Ids index a table, so a single huge one must not be able to fill the memory.
  const auto most = static_cast<std::int64_t>(count * 4 + 1'000'000);
  words_.reserve(count, bytes);
  spelling_.reserve(bytes);
  tokens_.resize(count);
  for (const auto [token, element] : object) {
    std::int64_t id = -1;
    if (element.get(id) != simdjson::SUCCESS || id < 0 || id > most)
      section.fail("a token has no usable id",
                   std::string(token) + ": " + simdjson::to_string(element),
                   "an integer from 0 to " + std::to_string(most));
    if (has_id(static_cast<std::int32_t>(id)))
      section.fail(
          "two tokens have the same id", std::string(token) + ": " + std::to_string(id),
          "another id than that of " + std::string(id_to_token(static_cast<std::int32_t>(id))));
    const std::int64_t size_before = size();
    add(token, static_cast<std::int32_t>(id));
    if (size() == size_before)
      section.fail("a token comes twice", std::string(token), "each token once");
  }
}

void Vocabulary::add(std::string_view token, std::int32_t id) {
  const auto place = static_cast<std::size_t>(id);
  if (place >= tokens_.size()) tokens_.resize(place + 1);
  tokens_[place] = {static_cast<std::uint32_t>(spelling_.size()),
                    static_cast<std::uint32_t>(token.size()), true};
  spelling_ += token;
  if (!raw_bytes_) {
    words_.set(token, id);
  } else if (const auto bytes = from_byte_level(token)) {
    words_.set(*bytes, id);
  } else {
    others_.set(token, id);
  }
}

std::int32_t Vocabulary::token_to_id(std::string_view token) const {
  if (!raw_bytes_) return words_.find(token);
  const auto bytes = from_byte_level(token);
  return bytes ? words_.find(*bytes) : others_.find(token);
}

std::string_view Vocabulary::id_to_token(std::int32_t id) const {
  if (!has_id(id)) return {};
  const Token& token = tokens_[static_cast<std::size_t>(id)];
  return std::string_view(spelling_).substr(token.begin, token.length);
}

}  // namespace espalier::text

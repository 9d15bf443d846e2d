#include "text/added_vocabulary/added_vocabulary.h"

#include <algorithm>

#include "espalier/base/utf8.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

AddedToken read_token(const JsonNode& section) {
  AddedToken token;
  token.content = section.at("content").as_string();
  token.single_word = section.at("single_word").as_bool();
  token.lstrip = section.at("lstrip").as_bool();
  token.rstrip = section.at("rstrip").as_bool();
  token.normalized = section.at("normalized").as_bool();
  token.special = section.at("special").as_bool();
  token.decoded = token.content;
  return token;
}

bool has_class(std::string_view text, std::size_t at, std::uint16_t wanted) {
  return (CharClassTable::get()[next_code_point(text, at)] & wanted) != 0;
}

bool word_ends_at(std::string_view text, std::size_t place) {
  return place > 0 && has_class(text, previous_boundary(text, place), kWord);
}

bool word_starts_at(std::string_view text, std::size_t place) {
  return place < text.size() && has_class(text, place, kWord);
}

std::size_t spaces_before(std::string_view text, std::size_t place) {
  while (place > 0) {
    const std::size_t before = previous_boundary(text, place);
    if (!has_class(text, before, kSpace)) break;
    place = before;
  }
  return place;
}

std::size_t spaces_behind(std::string_view text, std::size_t place) {
  while (place < text.size() && has_class(text, place, kSpace)) place += utf8_length(text[place]);
  return place;
}

}  // namespace

AddedVocabulary::AddedVocabulary(const JsonNode& section, const Model& model,
                                 const Normalizer* normalizer) {
  auto next_id = static_cast<std::int32_t>(model.size());
  for (const JsonNode& item : section.items()) {
    AddedToken token = read_token(item);
    if (token.content.empty()) continue;
    const auto known = ids_.find(token.content);
    std::int32_t id = known != ids_.end() ? known->second : model.token_to_id(token.content);
    if (id < 0) id = next_id++;
    const JsonNode declared = item.at("id");
    if (declared.as_int(0, INT32_MAX) != id)
      declared.fail("an added token has another id than its place in the vocabulary gives it",
                    token.content + ": " + std::to_string(declared.as_int()), std::to_string(id));
    if (token.normalized && normalizer != nullptr) {
      AlignedText text(token.content, 0, false);
      normalizer->normalize(text);
      token.decoded = std::string(text.view());
    }
    if (token.special) special_.insert(token.content);
    ids_[token.content] = id;
    largest_id_ = std::max(largest_id_, id);
    tokens_[id] = std::move(token);
  }
  for (const auto& [id, token] : tokens_)
    (token.normalized ? normalized_trie_ : plain_trie_).add(token.decoded, id);
}

const AddedToken* AddedVocabulary::find(std::int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : &found->second;
}

std::int32_t AddedVocabulary::token_to_id(const std::string& token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

void AddedVocabulary::extract(const Piece& piece, const TokenTrie& trie,
                              std::vector<Piece>& out) const {
  const std::string_view text = piece.view();
  const auto push = [&](std::size_t begin, std::size_t end, std::int32_t id) {
    out.push_back({piece.text, static_cast<std::uint32_t>(piece.begin + begin),
                   static_cast<std::uint32_t>(piece.begin + end), id});
  };
  std::size_t covered = 0;
  std::size_t from = 0;
  for (TokenTrie::Match match = trie.find(text, from); match.id >= 0;
       match = trie.find(text, from)) {
    from = match.end;
    const AddedToken& token = *find(match.id);
    std::size_t begin = match.begin;
    std::size_t end = match.end;
    if (token.single_word && (word_ends_at(text, begin) || word_starts_at(text, end))) continue;
    // The token before may have taken the spaces already.
    if (token.lstrip) begin = std::max(spaces_before(text, begin), covered);
    if (token.rstrip) end = spaces_behind(text, end);
    if (covered < begin) push(covered, begin, -1);
    push(std::min(begin, end), end, match.id);
    covered = end;
  }
  if (covered != text.size()) push(covered, text.size(), -1);
}

void AddedVocabulary::extract(PreTokenizedText& text, const TokenTrie& trie) const {
  if (trie.empty()) return;
  text.split([&](const Piece& piece, std::vector<Piece>& out) { extract(piece, trie, out); });
}

void AddedVocabulary::extract_and_normalize(PreTokenizedText& text,
                                            const Normalizer* normalizer) const {
  extract(text, plain_trie_);
  if (normalizer != nullptr) {
    text.split([&](const Piece& piece, std::vector<Piece>& out) {
      AlignedText& own = text.detach(piece);
      normalizer->normalize(own);
      if (own.changed()) {
        out.push_back({&own, 0, static_cast<std::uint32_t>(own.view().size())});
      } else {
        out.push_back(piece);
      }
    });
  }
  extract(text, normalized_trie_);
}

}  // namespace espalier::text

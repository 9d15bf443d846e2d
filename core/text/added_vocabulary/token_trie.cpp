#include "text/added_vocabulary/token_trie.h"

namespace espalier::text {
namespace {

std::size_t pair_of(char first, char second) {
  return static_cast<std::size_t>(static_cast<unsigned char>(first)) << 8U |
         static_cast<unsigned char>(second);
}

}  // namespace

void TokenTrie::add(std::string_view token, std::int32_t id) {
  if (token.empty()) return;
  starts_[static_cast<unsigned char>(token[0])] = true;
  if (token.size() > 1) {
    starts_with_pair_[pair_of(token[0], token[1])] = true;
  } else {
    for (int second = 0; second < 256; ++second)
      starts_with_pair_[pair_of(token[0], static_cast<char>(second))] = true;
  }
  std::uint32_t place = 0;
  for (const char byte : token) {
    std::uint32_t next = 0;
    for (const auto& [label, child] : nodes_[place].children)
      if (label == byte) next = child;
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_[place].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    place = next;
  }
  nodes_[place].id = id;
}

TokenTrie::Match TokenTrie::find(std::string_view text, std::size_t from) const {
  if (empty()) return {};
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    const char second = begin + 1 < text.size() ? text[begin + 1] : '\0';
    if (begin + 1 < text.size() && !starts_with_pair_[pair_of(text[begin], second)]) continue;
    Match match;
    std::uint32_t place = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      std::uint32_t next = 0;
      for (const auto& [label, child] : nodes_[place].children)
        if (label == text[at]) next = child;
      if (next == 0) break;
      place = next;
      if (nodes_[place].id >= 0) match = {begin, at + 1, nodes_[place].id};
    }
    if (match.id >= 0) return match;
  }
  return {};
}

}  // namespace espalier::text

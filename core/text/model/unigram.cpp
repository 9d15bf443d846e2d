// The language model of Kudo (2018) over pieces with scores: the cut of greatest total score, found
// by dynamic programming from left to right.
#include <array>
#include <limits>

#include "espalier/base/utf8.h"
#include "text/model/byte_trie.h"
#include "text/model/model.h"
#include "text/model/word_cache.h"

namespace espalier::text {
namespace {

/// The best cut of the text before a place.
struct BestPath {
  double score = 0;
  std::int32_t id = -1;
  std::uint32_t begin = 0;  ///< where its last piece starts
  bool reached = false;
};

struct UnigramScratch final : ModelScratch {
  WordCache cache;
  std::vector<BestPath> best;
  std::vector<TokenSpan> pieces;  ///< from the last to the first
  std::vector<TokenSpan> tokens;
};

class Unigram final : public Model {
 public:
  explicit Unigram(const JsonNode& section) : where_(section.where()) {
    read_pieces(section.at("vocab"));
    if (const auto unk = section.find("unk_id"))
      unk_id_ = static_cast<std::int32_t>(unk->as_int(0, size() - 1));
    const bool byte_fallback = section.bool_or("byte_fallback", false);
    for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      constexpr const char* kHex = "0123456789ABCDEF";
      byte_ids_[byte] =
          byte_fallback
              ? token_to_id(std::string("<0x") + kHex[byte >> 4U] + kHex[byte & 15U] + ">")
              : -1;
    }
  }

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<UnigramScratch>();
  }

  void tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenSpan>& tokens) const override {
    auto& own = static_cast<UnigramScratch&>(scratch);
    const std::uint64_t hash = hash_bytes(word);
    if (const auto known = own.cache.find(word, hash); known.data() != nullptr) {
      tokens.insert(tokens.end(), known.begin(), known.end());
      return;
    }
    find_best(word, own.best);
    read_back(own.best, own.pieces);
    own.tokens.clear();
    std::size_t at = 0;
    for (std::size_t i = own.pieces.size(); i-- > 0; at += own.pieces[i].length)
      add_piece(word.substr(at, own.pieces[i].length), own.pieces[i], own.tokens);
    own.cache.insert(word, hash, own.tokens);
    tokens.insert(tokens.end(), own.tokens.begin(), own.tokens.end());
  }

  std::string_view token_text(std::int32_t id, std::string_view word) const override {
    return id == unk_id_ ? word : id_to_token(id);
  }
  std::int32_t token_to_id(std::string_view token) const override {
    const auto [length, id] = trie_.longest_prefix(token);
    if (token.empty()) return empty_id_;
    return length == token.size() ? id : -1;
  }
  std::string_view id_to_token(std::int32_t id) const override {
    return has_id(id) ? std::string_view(pieces_[static_cast<std::size_t>(id)]) : "";
  }
  bool has_id(std::int32_t id) const override { return id >= 0 && id < size(); }
  std::int64_t size() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::int32_t largest_id() const override { return static_cast<std::int32_t>(size()) - 1; }

 private:
  void read_pieces(const JsonNode& vocab) {
    simdjson::dom::array list;
    if (vocab.raw().get(list) != simdjson::SUCCESS)
      vocab.fail("a value has the wrong type", {}, R"(a list of ["piece", score])");
    pieces_.reserve(list.size());
    double least = std::numeric_limits<double>::infinity();
    for (const simdjson::dom::element item : list) {
      simdjson::dom::array pair;
      std::string_view piece;
      double score = 0;
      if (item.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
          pair.at(0).get(piece) != simdjson::SUCCESS || pair.at(1).get(score) != simdjson::SUCCESS)
        vocab.fail("entry " + std::to_string(pieces_.size()) + " is no piece with its score",
                   simdjson::to_string(item), R"(["piece", score])");
      pieces_.emplace_back(piece);
      scores_.push_back(score);
      least = score < least ? score : least;
    }
    if (pieces_.empty()) vocab.fail("the vocabulary is empty", {}, "one piece at least");
    constexpr double kUnknownPenalty = 10;
    unknown_score_ = least - kUnknownPenalty;
    std::vector<std::pair<std::string_view, std::int32_t>> entries;
    entries.reserve(pieces_.size());
    for (std::size_t id = 0; id < pieces_.size(); ++id) {
      entries.emplace_back(pieces_[id], static_cast<std::int32_t>(id));
      if (pieces_[id].empty()) empty_id_ = static_cast<std::int32_t>(id);
    }
    trie_ = ByteTrie(std::move(entries));
  }

  [[noreturn]] void fail_without_unknown() const {
    throw_bad_input(
        "a text has a character that the vocabulary lacks, and there is no unknown token", {},
        "unk_id", where_);
  }

  /// The first of equally good cuts stays, as in the reference.
  static void offer(BestPath& place, double score, std::size_t begin, std::int32_t id) {
    if (place.reached && score <= place.score) return;
    place = {score, id, static_cast<std::uint32_t>(begin), true};
  }

  void find_best(std::string_view word, std::vector<BestPath>& best) const {
    best.assign(word.size() + 1, {});
    for (std::size_t begin = 0; begin < word.size();) {
      const double so_far = best[begin].score;
      const std::size_t behind_first = begin + utf8_length(word[begin]);
      bool covers_first = false;
      std::uint32_t node = ByteTrie::kRoot;
      for (std::size_t at = begin; at < word.size() && trie_.step(node, word[at]); ++at) {
        const std::int32_t id = trie_.value(node);
        if (id < 0) continue;
        offer(best[at + 1], so_far + scores_[static_cast<std::size_t>(id)], begin, id);
        covers_first = covers_first || at + 1 == behind_first;
      }
      if (!covers_first) {
        if (unk_id_ < 0) fail_without_unknown();
        offer(best[behind_first], so_far + unknown_score_, begin, unk_id_);
      }
      begin = behind_first;
    }
  }

  /// Unknown pieces beside each other become one.
  void read_back(const std::vector<BestPath>& best, std::vector<TokenSpan>& pieces) const {
    pieces.clear();
    for (std::size_t end = best.size() - 1; end > 0; end = best[end].begin) {
      const auto length = static_cast<std::uint32_t>(end - best[end].begin);
      const std::int32_t id = best[end].id;
      if (id == unk_id_ && !pieces.empty() && pieces.back().id == unk_id_) {
        pieces.back().length += length;
      } else {
        pieces.push_back({id, length});
      }
    }
  }

  void add_piece(std::string_view text, TokenSpan piece, std::vector<TokenSpan>& tokens) const {
    if (piece.id == unk_id_) {
      const std::int32_t known = token_to_id(text);
      if (known < 0 && add_bytes(text, tokens)) return;
      piece.id = known < 0 ? unk_id_ : known;
    }
    tokens.push_back(piece);
  }

  /// A token for each byte, all of which cover the whole text; false when one is missing.
  bool add_bytes(std::string_view text, std::vector<TokenSpan>& tokens) const {
    for (const char c : text)
      if (byte_ids_[static_cast<unsigned char>(c)] < 0) return false;
    const auto length = static_cast<std::uint32_t>(text.size());
    for (const char c : text)
      tokens.push_back({byte_ids_[static_cast<unsigned char>(c)], length, 1});
    tokens.back().stays = 0;
    return true;
  }

  std::string where_;
  std::vector<std::string> pieces_;  ///< by id
  std::vector<double> scores_;
  double unknown_score_ = 0;
  ByteTrie trie_;
  std::int32_t unk_id_ = -1;
  std::int32_t empty_id_ = -1;
  std::array<std::int32_t, 256> byte_ids_{};
};

}  // namespace

std::unique_ptr<Model> make_unigram(const JsonNode& section) {
  return std::make_unique<Unigram>(section);
}

}  // namespace espalier::text

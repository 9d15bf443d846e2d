// Byte pair encoding (Sennrich et al., 2016), byte-level or over characters.
#include <algorithm>
#include <array>

#include "espalier/base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/model/bpe_merger.h"
#include "text/model/merge_borders.h"
#include "text/model/model.h"
#include "text/model/vocabulary.h"
#include "text/model/word_cache.h"

namespace espalier::text {
namespace {

struct BpeScratch final : ModelScratch {
  WordCache cache;
  BpeMerger merger;
  std::vector<TokenSpan> symbols;
};

struct BpeSettings {
  std::string unk_token;
  bool has_unk = false;
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;

  explicit BpeSettings(const JsonNode& section)
      : unk_token(section.string_or("unk_token", "")),
        has_unk(section.find("unk_token").has_value()),
        continuing_subword_prefix(section.string_or("continuing_subword_prefix", "")),
        end_of_word_suffix(section.string_or("end_of_word_suffix", "")),
        fuse_unk(section.bool_or("fuse_unk", false)),
        byte_fallback(section.bool_or("byte_fallback", false)),
        ignore_merges(section.bool_or("ignore_merges", false)) {
    const auto dropout = section.find("dropout");
    if (dropout && dropout->as_number() != 0)
      dropout->fail("dropout of merges makes ids random", simdjson::to_string(dropout->raw()),
                    "null");
  }
};

class Bpe final : public Model {
 public:
  Bpe(const JsonNode& section, bool raw_bytes)
      : settings_(section), raw_bytes_(raw_bytes), vocabulary_(section.at("vocab"), raw_bytes) {
    read_merges(section.at("merges"));
    for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      const char raw = static_cast<char>(byte);
      byte_ids_[byte] = raw_bytes_ || byte < 0x80 ? vocabulary_.find({&raw, 1}) : -1;
      constexpr const char* kHex = "0123456789ABCDEF";
      fallback_ids_[byte] =
          vocabulary_.token_to_id(std::string("<0x") + kHex[byte >> 4U] + kHex[byte & 15U] + ">");
    }
    if (settings_.has_unk) unk_id_ = vocabulary_.token_to_id(settings_.unk_token);
    where_ = section.where();
    find_borders(section.at("merges"));
  }

  /// Raw bytes give the same result as the byte-level alphabet unless a rule looks at characters...
  static bool could_take_raw_bytes(const JsonNode& section) {
    const BpeSettings settings(section);
    return settings.continuing_subword_prefix.empty() && settings.end_of_word_suffix.empty() &&
           !settings.byte_fallback;
  }
  /// ...or a byte without a token has to be dropped, which shifts offsets by characters.
  bool covers_all_bytes() const {
    return unk_id_ >= 0 ||
           std::none_of(byte_ids_.begin(), byte_ids_.end(), [](std::int32_t id) { return id < 0; });
  }

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<BpeScratch>();
  }
  bool takes_raw_bytes() const override { return raw_bytes_; }

  void tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenSpan>& tokens) const override {
    auto& own = static_cast<BpeScratch&>(scratch);
    if (!has_borders_) return tokenize_part(word, own, tokens);
    if (settings_.ignore_merges) {
      if (const std::int32_t whole = vocabulary_.find(word); whole >= 0) {
        tokens.push_back({whole, static_cast<std::uint32_t>(word.size())});
        return;
      }
    }
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t end = borders_.part_end(word, at);
      tokenize_part(word.substr(at, end - at), own, tokens);
      at = end;
    }
  }

  std::int32_t token_to_id(std::string_view token) const override {
    return vocabulary_.token_to_id(token);
  }
  std::string_view id_to_token(std::int32_t id) const override {
    return vocabulary_.id_to_token(id);
  }
  bool has_id(std::int32_t id) const override { return vocabulary_.has_id(id); }
  std::int64_t size() const override { return vocabulary_.size(); }
  std::int32_t largest_id() const override { return vocabulary_.largest_id(); }

 private:
  void tokenize_part(std::string_view word, BpeScratch& own, std::vector<TokenSpan>& tokens) const {
    const std::uint64_t hash = hash_bytes(word);
    if (const auto known = own.cache.find(word, hash); known.data() != nullptr) {
      tokens.insert(tokens.end(), known.begin(), known.end());
      return;
    }
    own.symbols.clear();
    const std::int32_t whole =
        settings_.ignore_merges && !has_borders_ ? vocabulary_.find(word) : -1;
    if (whole >= 0) {
      own.symbols.push_back({whole, static_cast<std::uint32_t>(word.size())});
    } else {
      if (raw_bytes_) {
        add_bytes(word, own.symbols);
      } else {
        add_characters(word, own.symbols);
      }
      own.merger.merge(merges_, own.symbols);
    }
    own.cache.insert(word, hash, own.symbols);
    tokens.insert(tokens.end(), own.symbols.begin(), own.symbols.end());
  }

  /// Words of a byte-level vocabulary are short, and marks at the ends of words tie a word
  /// together.
  void find_borders(const JsonNode& section) {
    if (raw_bytes_ || !settings_.continuing_subword_prefix.empty() ||
        !settings_.end_of_word_suffix.empty())
      return;
    std::uint32_t rank = 0;
    for (const simdjson::dom::element merge : simdjson::dom::array(section.raw())) {
      const auto [left, right] = split_merge(section, merge, rank++);
      // Tokens that stand for something else than they spell.
      if (is_stand_in(left) || is_stand_in(right)) return;
      borders_.add_merge(left, right);
    }
    for (std::int32_t id = 0; id <= vocabulary_.largest_id(); ++id) {
      const std::string_view token = vocabulary_.id_to_token(id);
      std::size_t at = 0;
      if (token.empty() || utf8_length(token[0]) != token.size()) continue;
      borders_.add_character(next_code_point(token, at));
    }
    const bool all_bytes = std::none_of(fallback_ids_.begin(), fallback_ids_.end(),
                                        [](std::int32_t id) { return id < 0; });
    borders_.finish(!settings_.has_unk && !(settings_.byte_fallback && all_bytes));
    has_borders_ = true;
  }
  bool is_stand_in(std::string_view token) const {
    const std::int32_t id = vocabulary_.token_to_id(token);
    return id == unk_id_ ||
           std::find(fallback_ids_.begin(), fallback_ids_.end(), id) != fallback_ids_.end();
  }

  void read_merges(const JsonNode& section) {
    simdjson::dom::array merges;
    if (section.raw().get(merges) != simdjson::SUCCESS)
      section.fail("a value has the wrong type", {}, "a list of merges");
    merges_.reserve(merges.size());
    std::uint32_t rank = 0;
    std::string merged;
    for (const simdjson::dom::element merge : merges) {
      const auto [left, right] = split_merge(section, merge, rank);
      const std::int32_t left_id = merge_token(section, left, rank);
      const std::int32_t right_id = merge_token(section, right, rank);
      merged.assign(left);
      if (right.size() < settings_.continuing_subword_prefix.size())
        section.fail("the right side of a merge lacks the continuing_subword_prefix",
                     std::string(right), settings_.continuing_subword_prefix);
      merged += right.substr(settings_.continuing_subword_prefix.size());
      merges_.set(left_id, right_id, {rank, merge_token(section, merged, rank)});
      ++rank;
    }
  }

  static std::pair<std::string_view, std::string_view> split_merge(
      const JsonNode& section, const simdjson::dom::element& merge, std::uint32_t rank) {
    std::string_view text;
    if (merge.get(text) == simdjson::SUCCESS) {
      const std::size_t space = text.find(' ');
      if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos)
        return {text.substr(0, space), text.substr(space + 1)};
    }
    simdjson::dom::array pair;
    std::string_view left;
    std::string_view right;
    if (merge.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
        pair.at(0).get(left) == simdjson::SUCCESS && pair.at(1).get(right) == simdjson::SUCCESS)
      return {left, right};
    section.fail("merge " + std::to_string(rank) + " is no pair of tokens",
                 simdjson::to_string(merge), R"("a b" or ["a", "b"])");
  }

  std::int32_t merge_token(const JsonNode& section, std::string_view token,
                           std::uint32_t rank) const {
    const std::int32_t id = vocabulary_.token_to_id(token);
    if (id < 0)
      section.fail("merge " + std::to_string(rank) + " names a token that is not in the vocabulary",
                   std::string(token), "an entry of vocab");
    return id;
  }

  void add_bytes(std::string_view word, std::vector<TokenSpan>& symbols) const {
    TokenSpan unknown{unk_id_, 0};
    for (const char c : word) {
      const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
      if (id >= 0) {
        flush(unknown, symbols);
        symbols.push_back({id, 1});
      } else {
        add_unknown(1, unknown, symbols);
      }
    }
    flush(unknown, symbols);
  }

  void add_characters(std::string_view word, std::vector<TokenSpan>& symbols) const {
    TokenSpan unknown{unk_id_, 0};
    std::string spelled;
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t begin = at;
      at += utf8_length(word[at]);
      std::string_view symbol = word.substr(begin, at - begin);
      const auto length = static_cast<std::uint32_t>(symbol.size());
      const bool prefixed = begin != 0 && !settings_.continuing_subword_prefix.empty();
      const bool suffixed = at == word.size() && !settings_.end_of_word_suffix.empty();
      if (prefixed || suffixed) {
        spelled = prefixed ? settings_.continuing_subword_prefix : "";
        spelled += symbol;
        if (suffixed) spelled += settings_.end_of_word_suffix;
        symbol = spelled;
      }
      const bool ascii = symbol.size() == 1;
      const std::int32_t id =
          ascii ? byte_ids_[static_cast<unsigned char>(symbol[0])] : vocabulary_.find(symbol);
      if (id >= 0) {
        flush(unknown, symbols);
        symbols.push_back({id, length});
      } else if (!settings_.byte_fallback || !add_fallback(symbol, symbols)) {
        add_unknown(length, unknown, symbols);
      }
    }
    flush(unknown, symbols);
  }

  /// A token "<0xNN>" for each byte; false when one of them is missing.
  bool add_fallback(std::string_view symbol, std::vector<TokenSpan>& symbols) const {
    for (const char c : symbol)
      if (fallback_ids_[static_cast<unsigned char>(c)] < 0) return false;
    for (const char c : symbol)
      symbols.push_back({fallback_ids_[static_cast<unsigned char>(c)], 1});
    return true;
  }

  /// An unknown symbol waits, so that the next one can be fused with it.
  void add_unknown(std::uint32_t length, TokenSpan& unknown,
                   std::vector<TokenSpan>& symbols) const {
    if (!settings_.has_unk) return;
    if (unk_id_ < 0)
      throw_bad_input(
          "a text has an unknown character, and the unknown token is not in the vocabulary",
          settings_.unk_token, "an entry of vocab", where_ + ".unk_token");
    if (!settings_.fuse_unk) flush(unknown, symbols);
    unknown.length += length;
  }
  static void flush(TokenSpan& unknown, std::vector<TokenSpan>& symbols) {
    if (unknown.length == 0) return;
    symbols.push_back(unknown);
    unknown.length = 0;
  }

  BpeSettings settings_;
  std::string where_;
  bool raw_bytes_;
  Vocabulary vocabulary_;
  MergeTable merges_;
  std::int32_t unk_id_ = -1;
  bool has_borders_ = false;
  MergeBorders borders_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::array<std::int32_t, 256> fallback_ids_{};
};

}  // namespace

std::unique_ptr<Model> make_bpe(const JsonNode& section, bool byte_level_words) {
  if (byte_level_words && Bpe::could_take_raw_bytes(section)) {
    auto model = std::make_unique<Bpe>(section, true);
    if (model->covers_all_bytes()) return model;
  }
  return std::make_unique<Bpe>(section, false);
}

}  // namespace espalier::text

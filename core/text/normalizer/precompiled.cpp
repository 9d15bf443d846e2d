// The character map of a SentencePiece model: a double array (darts-clone) from UTF-8 keys to
// places in a block of texts that end in 0.
#include <algorithm>
#include <array>
#include <cstring>

#include "espalier/base/utf8.h"
#include "text/base64.h"
#include "text/normalizer/normalizer.h"
#include "text/unicode/graphemes.h"

namespace espalier::text {
namespace {

class CharacterMap {
 public:
  explicit CharacterMap(const JsonNode& section) {
    const auto bytes = decode_base64(section.as_string());
    std::uint32_t trie_bytes = 0;
    if (bytes && bytes->size() >= sizeof trie_bytes)
      std::memcpy(&trie_bytes, bytes->data(), sizeof trie_bytes);
    if (!bytes || bytes->size() < sizeof trie_bytes + trie_bytes ||
        trie_bytes < sizeof(std::uint32_t))
      section.fail("the character map is damaged",
                   std::to_string(bytes ? bytes->size() : 0) + " bytes",
                   "base64 of a trie and its texts");
    units_.resize(trie_bytes / sizeof(std::uint32_t));
    std::memcpy(units_.data(), bytes->data() + sizeof trie_bytes,
                units_.size() * sizeof(std::uint32_t));
    texts_ = bytes->substr(sizeof trie_bytes + trie_bytes);
    if (!is_valid_utf8(texts_))
      section.fail("the character map is damaged", "texts that are no UTF-8", {});
    for (std::size_t byte = 0; byte < starts_.size(); ++byte)
      starts_[byte] = child(root(), static_cast<unsigned char>(byte)) != kNone;
  }

  bool may_start(char byte) const { return starts_[static_cast<unsigned char>(byte)]; }

  /// The text for the shortest key that `part` starts with; a null data pointer when there is none.
  std::string_view find(std::string_view part) const {
    std::size_t place = root();
    for (const char c : part) {
      if (c == 0) break;
      place = child(place, static_cast<unsigned char>(c));
      if (place == kNone) break;
      const std::uint32_t unit = units_[place];
      place ^= offset(unit);
      if ((unit >> 8U & 1U) == 0) continue;
      if (place >= units_.size()) break;
      const std::size_t begin = units_[place] & 0x7FFFFFFFU;
      if (begin > texts_.size()) break;
      const std::size_t end = std::min(texts_.find('\0', begin), texts_.size());
      return std::string_view(texts_).substr(begin, end - begin);
    }
    return {};
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  static std::size_t offset(std::uint32_t unit) {
    return static_cast<std::size_t>(unit >> 10U) << ((unit & 1U << 9U) >> 6U);
  }
  std::size_t root() const { return offset(units_[0]); }
  std::size_t child(std::size_t place, unsigned char byte) const {
    place ^= byte;
    const bool found = place < units_.size() && (units_[place] & 0x800000FFU) == byte;
    return found ? place : kNone;
  }

  std::vector<std::uint32_t> units_;
  std::string texts_;
  std::array<bool, 256> starts_{};
};

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(const JsonNode& section) : map_(section.at("precompiled_charsmap")) {}

  void normalize(AlignedText& text) const override {
    std::vector<CharChange> changes;
    bool modified = false;
    const std::string_view view = text.view();
    changes.reserve(view.size());
    // Clusters as long as this are mapped by characters alone.
    constexpr std::size_t kLong = 6;
    for (std::size_t at = 0; at < view.size();) {
      if (at + 1 < view.size() && static_cast<unsigned char>(view[at]) < 0x80 &&
          static_cast<unsigned char>(view[at + 1]) < 0x80 && !map_.may_start(view[at])) {
        changes.push_back({static_cast<unsigned char>(view[at]), 0});
        ++at;
        continue;
      }
      const std::string_view cluster = view.substr(at, grapheme_length(view.substr(at)));
      at += cluster.size();
      const std::string_view whole =
          cluster.size() < kLong ? map_.find(cluster) : std::string_view();
      if (whole.data() != nullptr) {
        modified = true;
        replace(changes, cluster, whole);
        continue;
      }
      for (std::size_t in = 0; in < cluster.size();) {
        const std::string_view part = cluster.substr(in, utf8_length(cluster[in]));
        const std::string_view mapped = map_.find(part);
        if (mapped.data() == nullptr) {
          std::size_t place = in;
          changes.push_back({next_code_point(cluster, place), 0});
        } else {
          modified = true;
          replace(changes, part, mapped);
        }
        in += part.size();
      }
    }
    if (modified) text.transform(changes);
  }

 private:
  /// As the reference counts: surplus characters are inserted, missing ones go with the last one
  /// before, wherever that came from.
  static void replace(std::vector<CharChange>& changes, std::string_view old,
                      std::string_view now) {
    const auto old_count = static_cast<int>(count_code_points(old));
    int place = 0;
    int count = 0;
    for (std::size_t at = 0; at < now.size(); ++place, ++count)
      changes.push_back({next_code_point(now, at), 0});
    if (count > old_count) {
      for (int i = 0; i < count - old_count; ++i)
        changes[changes.size() - 1 - static_cast<std::size_t>(i)].change = 1;
    } else if (count < old_count && !changes.empty()) {
      changes.back().change += count - old_count;
    }
  }

  CharacterMap map_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled(const JsonNode& section) {
  return std::make_unique<Precompiled>(section);
}

}  // namespace espalier::text

// NFC, NFD, NFKC and NFKD as of the Unicode version of the reference: code points that are younger
// than it stay as they are.
#include <utf8proc.h>

#include <algorithm>
#include <optional>

#include "espalier/base/utf8.h"
#include "text/normalizer/character_changes.h"
#include "text/normalizer/normalizer.h"
#include "text/unicode/tables.h"

namespace espalier::text {
namespace {

constexpr char32_t kHangulBase = 0xAC00;
constexpr char32_t kLeadBase = 0x1100;
constexpr char32_t kVowelBase = 0x1161;
constexpr char32_t kTailBase = 0x11A7;
constexpr char32_t kLeads = 19;
constexpr char32_t kVowels = 21;
constexpr char32_t kTails = 28;

bool is_inert(char32_t point) {
  const auto* found = std::upper_bound(
      std::begin(tables::kInertForNormalization), std::end(tables::kInertForNormalization), point,
      [](char32_t wanted, const tables::CodePointRange& range) { return wanted < range.first; });
  return found != std::begin(tables::kInertForNormalization) && point <= (found - 1)->last;
}

int combining_class(char32_t point) {
  if (point < 0x300 || is_inert(point)) return 0;
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(point))->combining_class;
}

std::optional<char32_t> compose(char32_t first, char32_t second) {
  if (first >= kLeadBase && first < kLeadBase + kLeads && second >= kVowelBase &&
      second < kVowelBase + kVowels)
    return kHangulBase + ((first - kLeadBase) * kVowels + (second - kVowelBase)) * kTails;
  if (first >= kHangulBase && first < kHangulBase + kLeads * kVowels * kTails &&
      (first - kHangulBase) % kTails == 0 && second > kTailBase && second < kTailBase + kTails)
    return first + (second - kTailBase);
  const auto* found = std::lower_bound(
      std::begin(tables::kCompositions), std::end(tables::kCompositions), std::pair(first, second),
      [](const tables::Composition& row, const std::pair<char32_t, char32_t>& wanted) {
        return std::pair(row.first, row.second) < wanted;
      });
  if (found == std::end(tables::kCompositions) || found->first != first || found->second != second)
    return std::nullopt;
  return found->composed;
}

struct OrderedChar {
  int combining_class;
  CharChange change;
};

/// Full decomposition in canonical order.
std::vector<OrderedChar> decompose(std::string_view text, bool compatibility) {
  std::vector<OrderedChar> out;
  std::size_t unsorted = 0;  // start of the run of combining marks at the end
  const auto sort_run = [&] {
    std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(unsorted), out.end(),
                     [](const OrderedChar& a, const OrderedChar& b) {
                       return a.combining_class < b.combining_class;
                     });
    unsorted = out.size();
  };
  const int options = UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
  for (std::size_t at = 0; at < text.size();) {
    const char32_t point = next_code_point(text, at);
    utf8proc_int32_t parts[32];
    utf8proc_ssize_t count = 1;
    parts[0] = static_cast<utf8proc_int32_t>(point);
    if (point >= 0xA0 && !is_inert(point)) {
      int boundary = 0;
      count = utf8proc_decompose_char(parts[0], parts, 32, static_cast<utf8proc_option_t>(options),
                                      &boundary);
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      const auto part = static_cast<char32_t>(parts[i]);
      const int order = combining_class(part);
      if (order == 0) sort_run();
      out.push_back({order, {part, i == 0 ? 0 : 1}});
    }
  }
  sort_run();
  return out;
}

std::vector<CharChange> without_order(const std::vector<OrderedChar>& chars) {
  std::vector<CharChange> changes;
  changes.reserve(chars.size());
  for (const OrderedChar& c : chars) changes.push_back(c.change);
  return changes;
}

std::vector<CharChange> recompose(const std::vector<OrderedChar>& chars) {
  std::vector<CharChange> out;
  std::optional<std::size_t> starter;  // place in `out`
  std::optional<int> last_class;       // of the marks behind the starter that did not compose
  for (const OrderedChar& c : chars) {
    const bool blocked = last_class && *last_class >= c.combining_class;
    if (starter && !blocked) {
      if (const auto composed = compose(out[*starter].point, c.change.point)) {
        out[*starter] = {*composed, out[*starter].change + c.change.change - 1};
        continue;
      }
    }
    if (c.combining_class == 0) {
      starter = out.size();
      last_class.reset();
    } else if (starter) {
      last_class = c.combining_class;
    }
    out.push_back(c.change);
  }
  return out;
}

/// Starters that NFC leaves alone and that compose with nothing before them: of the Basic
/// Multilingual Plane, where nearly all text lives.
class NfcStableTable {
 public:
  static const NfcStableTable& get() {
    static const NfcStableTable kTable;
    return kTable;
  }
  bool operator[](char32_t point) const { return point < stable_.size() && stable_[point]; }

 private:
  NfcStableTable() : stable_(0x10000, true) {
    constexpr char32_t kHanBegin = 0x3400;
    constexpr char32_t kHangulEnd = 0xD7A4;
    for (char32_t point = 0x300; point < stable_.size(); ++point) {
      if (point == kHanBegin) point = kHangulEnd;  // none of these changes
      if (combining_class(point) != 0) stable_[point] = false;
      const auto decomposed = decompose(to_utf8({&point, 1}), false);
      if (decomposed.size() == 1 && decomposed[0].change.point == point) continue;
      const auto normal = recompose(decomposed);
      if (normal.size() != 1 || normal[0].point != point) stable_[point] = false;
    }
    for (const tables::Composition& row : tables::kCompositions)
      if (row.second < stable_.size()) stable_[row.second] = false;
    for (char32_t jamo = kVowelBase; jamo < kVowelBase + kVowels; ++jamo) stable_[jamo] = false;
    for (char32_t jamo = kTailBase; jamo < kTailBase + kTails; ++jamo) stable_[jamo] = false;
    for (char32_t point = 0xA66F; point < 0xABF0; ++point)  // marks between the two large blocks
      if (combining_class(point) != 0) stable_[point] = false;
  }

  std::vector<bool> stable_;
};

/// A starter that the normal form leaves alone, with nothing that composes with it from behind.
bool is_stable(char32_t point, bool compatibility, bool composed) {
  if (point < 0xA0) return true;
  if (!compatibility && composed)
    return NfcStableTable::get()[point] || (point >= 0x1F000 && point < 0x20000);
  return point >= 0x4E00 && point < 0xA000;  // no unified ideograph has a decomposition
}

class UnicodeNormalizer final : public Normalizer {
 public:
  UnicodeNormalizer(bool compatibility, bool composed)
      : compatibility_(compatibility), composed_(composed) {}

  void normalize(AlignedText& text) const override {
    // Only the stretches around characters that may change are worked on; most texts have none.
    const std::vector<Span> stretches = unstable_stretches(text.view());
    if (stretches.empty()) return;
    std::string_view view = text.view();
    std::vector<CharChange> changes;
    std::size_t at = 0;
    bool different = false;
    for (const Span& stretch : stretches) {
      while (at < stretch.begin) changes.push_back({next_code_point(view, at), 0});
      const std::string_view part = view.substr(stretch.begin, stretch.end - stretch.begin);
      const auto decomposed = decompose(part, compatibility_);
      const auto normal = composed_ ? recompose(decomposed) : without_order(decomposed);
      std::size_t old = 0;
      for (const CharChange& change : normal)
        different |= change.change != 0 || next_or_none(part, old) != change.point;
      changes.insert(changes.end(), normal.begin(), normal.end());
      at = stretch.end;
    }
    if (!different) return;
    while (at < view.size()) changes.push_back({next_code_point(view, at), 0});
    text.transform(changes);
  }

 private:
  static char32_t next_or_none(std::string_view text, std::size_t& at) {
    return at < text.size() ? next_code_point(text, at) : 0x110000;
  }

  std::vector<Span> unstable_stretches(std::string_view text) const {
    std::vector<Span> stretches;
    std::uint32_t last_stable = 0;  // a stable character may be composed with what follows it
    bool inside = false;
    for (std::size_t at = 0; at < text.size();) {
      const auto begin = static_cast<std::uint32_t>(at);
      if (is_stable(next_code_point(text, at), compatibility_, composed_)) {
        if (inside) stretches.back().end = begin;
        inside = false;
        last_stable = begin;
      } else if (!inside) {
        inside = true;
        stretches.push_back({last_stable, 0});
      }
    }
    if (inside) stretches.back().end = static_cast<std::uint32_t>(text.size());
    return stretches;
  }

  bool compatibility_;
  bool composed_;
};

}  // namespace

void decompose_characters(AlignedText& text) {
  static const UnicodeNormalizer kNfd(false, false);
  kNfd.normalize(text);
}

std::unique_ptr<Normalizer> make_nfc(const JsonNode&) {
  return std::make_unique<UnicodeNormalizer>(false, true);
}
std::unique_ptr<Normalizer> make_nfd(const JsonNode&) {
  return std::make_unique<UnicodeNormalizer>(false, false);
}
std::unique_ptr<Normalizer> make_nfkc(const JsonNode&) {
  return std::make_unique<UnicodeNormalizer>(true, true);
}
std::unique_ptr<Normalizer> make_nfkd(const JsonNode&) {
  return std::make_unique<UnicodeNormalizer>(true, false);
}

}  // namespace espalier::text

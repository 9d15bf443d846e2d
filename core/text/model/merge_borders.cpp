#include "text/model/merge_borders.h"

#include <algorithm>

#include "espalier/base/utf8.h"

namespace espalier::text {

void MergeBorders::add_character(char32_t point) {
  if (point < kTableSize) kinds_[point] = Kind::kFree;
}

void MergeBorders::add_merge(std::string_view left, std::string_view right) {
  if (left.empty() || right.empty()) return;
  std::size_t last = previous_boundary(left, left.size());
  std::size_t first = 0;
  const char32_t before = next_code_point(left, last);
  joined_.push_back(key(before, next_code_point(right, first)));
}

void MergeBorders::finish(bool unknown_vanish) {
  unknown_vanish_ = unknown_vanish;
  // By second character first, to count the partners of each.
  const auto second = [](std::uint64_t pair) { return static_cast<std::uint32_t>(pair); };
  std::sort(joined_.begin(), joined_.end(), [&](std::uint64_t a, std::uint64_t b) {
    return second(a) != second(b) ? second(a) < second(b) : a < b;
  });
  joined_.erase(std::unique(joined_.begin(), joined_.end()), joined_.end());
  constexpr std::size_t kMostPartners = 8;
  std::vector<std::uint64_t> kept;
  for (std::size_t i = 0; i < joined_.size();) {
    std::size_t end = i;
    while (end < joined_.size() && second(joined_[end]) == second(joined_[i])) ++end;
    const char32_t point = second(joined_[i]);
    if (point < kTableSize && kinds_[point] == Kind::kFree) {
      const bool some = end - i <= kMostPartners;
      kinds_[point] = some ? Kind::kSome : Kind::kMany;
      if (some)
        kept.insert(kept.end(), joined_.begin() + static_cast<std::ptrdiff_t>(i),
                    joined_.begin() + static_cast<std::ptrdiff_t>(end));
    }
    i = end;
  }
  std::sort(kept.begin(), kept.end());
  joined_ = std::move(kept);
}

std::size_t MergeBorders::part_end(std::string_view text, std::size_t begin) const {
  const auto kind_of = [&](char32_t point) {
    return point < kTableSize ? kinds_[point] : Kind::kUnknown;
  };
  std::size_t at = begin;
  char32_t before = next_code_point(text, at);
  bool hidden = unknown_vanish_ && kind_of(before) == Kind::kUnknown;
  while (at < text.size()) {
    std::size_t next = at;
    const char32_t point = next_code_point(text, next);
    const Kind kind = kind_of(point);
    if (!hidden && (kind == Kind::kFree ||
                    (kind == Kind::kSome &&
                     !std::binary_search(joined_.begin(), joined_.end(), key(before, point)))))
      return at;
    hidden = unknown_vanish_ && kind == Kind::kUnknown;
    before = point;
    at = next;
  }
  return text.size();
}

}  // namespace espalier::text

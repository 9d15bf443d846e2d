#pragma once

#include "espalier/base/utf8.h"
#include "text/aligned_text.h"

namespace espalier::text {

/// Puts `map(character)` in place of every character.
template <class Map>
void map_characters(AlignedText& text, Map&& map) {
  std::vector<CharChange> changes;
  bool different = false;
  const std::string_view view = text.view();
  changes.reserve(view.size());
  for (std::size_t at = 0; at < view.size();) {
    const char32_t point = next_code_point(view, at);
    const char32_t mapped = map(point);
    different |= mapped != point;
    changes.push_back({mapped, 0});
  }
  if (different) text.transform(changes);
}

/// Drops the characters for which `keep` is false.
template <class Keep>
void filter_characters(AlignedText& text, Keep&& keep) {
  std::vector<CharChange> changes;
  std::size_t removed_before = 0;
  bool different = false;
  const std::string_view view = text.view();
  changes.reserve(view.size());
  for (std::size_t at = 0; at < view.size();) {
    const char32_t point = next_code_point(view, at);
    if (keep(point)) {
      changes.push_back({point, 0});
      continue;
    }
    different = true;
    if (changes.empty()) {
      ++removed_before;
    } else {
      --changes.back().change;
    }
  }
  if (different) text.transform(changes, changes.empty() ? 0 : removed_before);
}

void to_lowercase(AlignedText& text);

/// Canonical decomposition (NFD).
void decompose_characters(AlignedText& text);

}  // namespace espalier::text

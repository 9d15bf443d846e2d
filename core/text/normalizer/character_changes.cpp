#include "text/normalizer/character_changes.h"

#include "text/unicode/properties.h"

namespace espalier::text {

void to_lowercase(AlignedText& text) {
  std::vector<CharChange> changes;
  bool different = false;
  const std::string_view view = text.view();
  changes.reserve(view.size());
  for (std::size_t at = 0; at < view.size();) {
    const char32_t point = next_code_point(view, at);
    const auto lower = lowercase(point);
    different |= lower[0] != point;
    for (std::size_t i = 0; i < lower.size() && (i == 0 || lower[i] != 0); ++i)
      changes.push_back({lower[i], i == 0 ? 0 : 1});
  }
  if (different) text.transform(changes);
}

}  // namespace espalier::text

#pragma once

#include <span>
#include <string_view>

#include "text/chat/operations.h"

namespace espalier::text::chat {

struct NamedFilter {
  std::string_view name;
  Builtin filter;
};

/// Filters for texts, numbers and collections.
std::span<const NamedFilter> text_filters();
std::span<const NamedFilter> number_filters();
std::span<const NamedFilter> collection_filters();

/// `item[a][b]` for "a.b"; integers in the path are indices. `fallback`, if it isn't none, takes
/// the place of whatever is undefined on the way.
Item get_path(const Item& item, const Item& path, const Item& fallback = {});
/// Strings in lower case, for comparisons that ignore it.
Item without_case(const Item& item);

}  // namespace espalier::text::chat

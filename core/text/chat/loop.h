#pragma once

#include <functional>
#include <optional>

#include "text/chat/item.h"

namespace espalier::text::chat {

/// The variable `loop`.
struct Loop final : Instance {
  Loop() : Instance(Kind::kLoop) {}
  Items items;
  std::size_t index0 = 0;
  std::int64_t depth0 = 0;
  std::optional<Items> changed_value;
  /// Renders the body over other items; empty for loops that are not recursive.
  std::function<Item(const Item& iterable, std::int64_t depth0)> recurse;
};

std::optional<Item> loop_attribute(const Item& loop, const std::string& name);
/// `loop(items)` in a recursive loop.
Item call_loop(const Item& loop, const Arguments& arguments);

}  // namespace espalier::text::chat

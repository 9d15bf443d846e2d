#pragma once

#include <functional>
#include <optional>

#include "text/chat/generator.h"

namespace espalier::text::chat {

/// The variable `loop`.
struct Loop final : Instance {
  explicit Loop(const Item& iterable) : Instance(Kind::kLoop), source(iterable) {}

  /// Whether there is an item at `place`; takes items off the source up to it.
  bool reach(std::size_t place);
  /// The number of all items.
  std::int64_t count();

  ItemReader source;
  std::function<bool(const Item&)> accepts;  ///< the `if` of the loop; empty for none
  Items items;                               ///< as far as they were asked for
  bool complete = false;
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

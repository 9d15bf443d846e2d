#include "text/chat/loop.h"

#include <algorithm>

namespace espalier::text::chat {
namespace {

Item cycle(const Loop& loop, const Arguments& arguments) {
  if (arguments.positional.empty()) fail("TypeError", "no items for cycling given");
  return arguments.positional[loop.index0 % arguments.positional.size()];
}

Item changed(Loop& loop, const Arguments& arguments) {
  const Items& value = arguments.positional;
  const bool same = loop.changed_value && std::equal(value.begin(), value.end(),
                                                     loop.changed_value->begin(),
                                                     loop.changed_value->end(), equal);
  loop.changed_value = value;
  return !same;
}

}  // namespace

std::optional<Item> loop_attribute(const Item& item, const std::string& name) {
  auto& loop = item.as<Loop>();
  const auto index0 = static_cast<std::int64_t>(loop.index0);
  const auto size = static_cast<std::int64_t>(loop.items.size());
  if (name == "index") return index0 + 1;
  if (name == "index0") return index0;
  if (name == "revindex") return size - index0;
  if (name == "revindex0") return size - index0 - 1;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 + 1 == size;
  if (name == "length") return size;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem")
    return index0 == 0 ? make_undefined("there is no previous item")
                       : loop.items[loop.index0 - 1];
  if (name == "nextitem")
    return index0 + 1 == size ? make_undefined("there is no next item")
                              : loop.items[loop.index0 + 1];
  // The functions hold the loop, which holds none of them.
  if (name == "cycle")
    return make_function("cycle", [item](const Arguments& a) { return cycle(item.as<Loop>(), a); });
  if (name == "changed")
    return make_function("changed",
                         [item](const Arguments& a) { return changed(item.as<Loop>(), a); });
  return std::nullopt;
}

Item call_loop(const Item& item, const Arguments& arguments) {
  const auto& loop = item.as<Loop>();
  if (!loop.recurse)
    fail("TypeError", "The loop must have the 'recursive' marker to be called recursively.");
  if (arguments.positional.size() != 1 || !arguments.named.empty())
    fail("TypeError", "loop() takes the items to loop over");
  return loop.recurse(arguments.positional[0], loop.depth0 + 1);
}

}  // namespace espalier::text::chat

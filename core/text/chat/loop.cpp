#include "text/chat/loop.h"

#include <algorithm>
#include <limits>

namespace espalier::text::chat {
namespace {

Item cycle(Loop& loop, const Arguments& arguments) {
  if (arguments.positional.empty()) fail("TypeError", "no items for cycling given");
  return arguments.positional[loop.index0 % arguments.positional.size()];
}

Item changed(Loop& loop, const Arguments& arguments) {
  const Items& value = arguments.positional;
  const bool same =
      loop.changed_value && std::equal(value.begin(), value.end(), loop.changed_value->begin(),
                                       loop.changed_value->end(), equal);
  loop.changed_value = value;
  return !same;
}

}  // namespace

bool Loop::reach(std::size_t place) {
  while (!complete && items.size() <= place) {
    auto item = source.next();
    complete = !item;
    if (item && (!accepts || accepts(*item))) items.push_back(*std::move(item));
  }
  return items.size() > place;
}

std::int64_t Loop::count() {
  reach(std::numeric_limits<std::size_t>::max());
  return static_cast<std::int64_t>(items.size());
}

std::optional<Item> loop_attribute(const Item& item, const std::string& name) {
  auto& loop = item.as<Loop>();
  const auto index0 = static_cast<std::int64_t>(loop.index0);
  if (name == "index") return index0 + 1;
  if (name == "index0") return index0;
  if (name == "revindex") return loop.count() - index0;
  if (name == "revindex0") return loop.count() - index0 - 1;
  if (name == "first") return index0 == 0;
  if (name == "last") return !loop.reach(loop.index0 + 1);
  if (name == "length") return loop.count();
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem")
    return index0 == 0 ? make_undefined("there is no previous item") : loop.items[loop.index0 - 1];
  if (name == "nextitem")
    return loop.reach(loop.index0 + 1) ? loop.items[loop.index0 + 1]
                                       : make_undefined("there is no next item");
  // The functions hold the loop, which holds none of them.
  if (name != "cycle" && name != "changed") return std::nullopt;
  const auto method = name == "cycle" ? cycle : changed;
  Item function = make_function(
      name, [item, method](const Arguments& a) { return method(item.as<Loop>(), a); });
  function.as<Function>().receiver = item;
  return function;
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

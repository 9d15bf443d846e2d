#pragma once

#include <functional>
#include <optional>
#include <string>

#include "text/chat/item.h"

namespace espalier::text::chat {

/// Items that are made when they are asked for, and given once each.
struct Generator final : Instance {
  using Next = std::function<std::optional<Item>()>;
  Generator(std::string label, Next next_item, int chain_depth)
      : Instance(Kind::kGenerator),
        name(std::move(label)),
        next(std::move(next_item)),
        depth(chain_depth) {}
  std::string name;  ///< of its type
  Next next;
  int depth;  ///< of generators that take their items from each other
};

/// Gives the items of a value one by one. TypeError for what can't be iterated.
class ItemReader {
 public:
  explicit ItemReader(const Item& iterable);
  std::optional<Item> next();

 private:
  Item generator_;
  Items items_;  ///< of anything else
  std::size_t place_ = 0;
};

/// A generator whose items come from those of `source`.
Item make_generator(const Item& source, Generator::Next next);
/// A generator of the items that `make` gives as a whole, when the first of them is asked for.
Item make_generator(const Item& source, std::function<Items()> make);
/// An iterator over items that are there already.
Item make_iterator(Items items, std::string type_name);

}  // namespace espalier::text::chat

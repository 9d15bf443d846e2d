#include "text/chat/generator.h"

#include <memory>

#include "text/chat/limits.h"

namespace espalier::text::chat {
namespace {

constexpr int kDeepestChain = 100;

}  // namespace

ItemReader::ItemReader(const Item& iterable) {
  if (iterable.is(Kind::kGenerator)) {
    generator_ = iterable;
  } else {
    items_ = iterate(iterable);
  }
}

std::optional<Item> ItemReader::next() {
  Meter::charge();
  if (!generator_.is_none()) return generator_.as<Generator>().next();
  if (place_ == items_.size()) return std::nullopt;
  return std::move(items_[place_++]);
}

Item make_generator(const Item& source, Generator::Next next) {
  const int depth = source.is(Kind::kGenerator) ? source.as<Generator>().depth + 1 : 1;
  if (depth > kDeepestChain) fail("RecursionError", "maximum recursion depth exceeded");
  return std::make_shared<Generator>("generator", std::move(next), depth);
}

Item make_generator(const Item& source, std::function<Items()> make) {
  return make_generator(source,
                        [make = std::move(make), reader = std::optional<ItemReader>()]() mutable {
                          if (!reader) reader.emplace(make_list(make()));
                          return reader->next();
                        });
}

Item make_iterator(Items items, std::string type_name) {
  return std::make_shared<Generator>(
      std::move(type_name),
      [reader = ItemReader(make_list(std::move(items)))]() mutable { return reader.next(); }, 1);
}

}  // namespace espalier::text::chat

#include <algorithm>
#include <cmath>

#include "espalier/base/utf8.h"
#include "text/chat/filters.h"
#include "text/chat/generator.h"
#include "text/chat/limits.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

bool given(const Item* item) { return item != nullptr && !item->is_none(); }

Item length_filter(const Item& value, const Arguments&) { return length(value); }
Item list_filter(const Item& value, const Arguments&) { return make_list(iterate(value)); }

Item first_filter(const Item& value, const Arguments&) {
  auto first = ItemReader(value).next();
  return first ? *std::move(first) : make_undefined("No first item, sequence was empty.");
}

Item last_filter(const Item& value, const Arguments&) {
  if (value.is(Kind::kGenerator))
    fail("TypeError", "'" + type_name(value) + "' object is not reversible");
  const Items items = iterate(value);
  if (items.empty()) return make_undefined("No last item, sequence was empty.");
  return value.is_string() ? text_like(value, items.back().as_string()) : items.back();
}

Item join_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("join", arguments, {"d", "attribute"});
  const std::string separator = reader.find(0) == nullptr ? "" : to_str(*reader.find(0));
  std::string out;
  bool first = true;
  for (const Item& item : iterate(value)) {
    if (!first) out += separator;
    first = false;
    out += to_str(given(reader.find(1)) ? get_path(item, *reader.find(1)) : item);
    if (out.size() > kMostOutputBytes) Meter::charge_bytes(out.size());
  }
  return out;
}

/// What becomes of an item; nothing for one that is left out.
using Change = std::function<std::optional<Item>(const Item&)>;

/// A generator of changed items. Nothing happens, and no argument is looked at, before the first
/// item is asked for; and nothing at all for an empty value.
Item changed_items(const Item& value, std::function<Change()> prepare) {
  return make_generator(value, [value, prepare = std::move(prepare), change = Change(),
                                reader = std::optional<ItemReader>()]() mutable {
    if (!reader) {
      const bool any = truth(value);
      if (any) change = prepare();
      reader.emplace(any ? value : make_list({}));
    }
    while (const auto item = reader->next())
      if (auto changed = change(*item)) return changed;
    return std::optional<Item>();
  });
}

Change prepare_map(const Arguments& arguments) {
  if (!arguments.positional.empty()) {
    Arguments rest = arguments;
    rest.positional.erase(rest.positional.begin());
    return [name = to_str(arguments.positional[0]), rest](const Item& item) {
      return apply_filter(name, item, rest);
    };
  }
  const ArgumentReader reader("map", arguments, {"", "attribute", "default"});
  if (reader.find(1) == nullptr) fail("FilterArgumentError", "map requires a filter argument");
  return [path = *reader.find(1), fallback = reader.find(2) == nullptr ? Item() : *reader.find(2)](
             const Item& item) { return get_path(item, path, fallback); };
}

Item map_filter(const Item& value, const Arguments& arguments) {
  return changed_items(value, [arguments] { return prepare_map(arguments); });
}

template <bool ByAttribute, bool Keep>
Change prepare_select(const Arguments& arguments) {
  Arguments rest = arguments;
  const auto take = [&] {
    Item first = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
    return first;
  };
  if (ByAttribute && rest.positional.empty())
    fail("FilterArgumentError", "Missing parameter for attribute name");
  const Item attribute = ByAttribute ? take() : Item();
  const bool tests = !rest.positional.empty();
  const std::string test = tests ? to_str(take()) : "";
  return [attribute, tests, test, rest](const Item& item) {
    const Item subject = ByAttribute ? get_path(item, attribute) : item;
    const bool passes = tests ? apply_test(test, subject, rest) : truth(subject);
    return passes == Keep ? std::optional(item) : std::nullopt;
  };
}

/// select, reject (by the item) and selectattr, rejectattr (by an attribute).
template <bool ByAttribute, bool Keep>
Item select_filter(const Item& value, const Arguments& arguments) {
  return changed_items(value, [arguments] { return prepare_select<ByAttribute, Keep>(arguments); });
}

Item sort_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = reader.truth_or(1, false);
  std::vector<Item> paths;
  if (given(reader.find(2)) && reader.find(2)->is_string()) {
    const std::string comma = ",";
    for (const std::string& path : split(reader.find(2)->as_string(), &comma, -1, false))
      paths.emplace_back(path);
  } else if (given(reader.find(2))) {
    paths.push_back(*reader.find(2));
  }
  std::vector<std::pair<Item, Item>> keyed;
  for (Item& item : iterate(value)) {
    Items key;
    for (const Item& path : paths) key.push_back(get_path(item, path));
    if (paths.empty()) key.push_back(item);
    if (!case_sensitive)
      for (Item& part : key) part = without_case(part);
    keyed.emplace_back(make_list(std::move(key)), std::move(item));
  }
  const bool reverse = reader.truth_or(0, false);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  Items out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return make_list(std::move(out));
}

Item reverse_filter(const Item& value, const Arguments&) {
  if (value.is_string()) {
    std::u32string points = to_code_points(value.as_string());
    std::reverse(points.begin(), points.end());
    return text_like(value, to_utf8(points));
  }
  Items items = iterate(value);
  std::reverse(items.begin(), items.end());
  // What has no order of its own from behind, comes back as a list.
  return value.is(Kind::kGenerator) ? make_list(std::move(items))
                                    : make_iterator(std::move(items), "list_reverseiterator");
}

/// A generator of items that are made when the first of them is asked for.
template <Items (*Make)(const Item&, const Arguments&)>
Item made_later(const Item& value, const Arguments& arguments) {
  return make_generator(value, [value, arguments] { return Make(value, arguments); });
}

Items unique_items(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("unique", arguments, {"case_sensitive", "attribute"});
  const bool case_sensitive = reader.truth_or(0, false);
  Items seen;
  Items out;
  for (Item& item : iterate(value)) {
    Item key = given(reader.find(1)) ? get_path(item, *reader.find(1)) : item;
    if (!case_sensitive) key = without_case(key);
    check_hashable(key);
    if (std::any_of(seen.begin(), seen.end(), [&](const Item& other) { return equal(other, key); }))
      continue;
    seen.push_back(key);
    out.push_back(std::move(item));
  }
  return out;
}

template <bool Largest>
Item extreme_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader(Largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const bool case_sensitive = reader.truth_or(0, false);
  const Items items = iterate(value);
  if (items.empty()) return make_undefined("No aggregated item, sequence was empty.");
  const auto key = [&](const Item& item) {
    Item found = given(reader.find(1)) ? get_path(item, *reader.find(1)) : item;
    return case_sensitive ? found : without_case(found);
  };
  const Item* best = &items[0];
  Item best_key = key(*best);
  for (auto item = items.begin() + 1; item != items.end(); ++item) {
    Item own = key(*item);
    if (Largest ? !less(best_key, own, ">") : !less(own, best_key)) continue;
    best = &*item;
    best_key = std::move(own);
  }
  return *best;
}

Item sum_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("sum", arguments, {"attribute", "start"});
  Item total = reader.find(1) == nullptr ? Item(0) : *reader.find(1);
  if (total.is_string()) fail("TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
  for (const Item& item : iterate(value))
    total =
        apply_operator("+", total, given(reader.find(0)) ? get_path(item, *reader.find(0)) : item);
  return total;
}

Items batch_items(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("batch", arguments, {"linecount", "fill_with"});
  const Item& size = reader.require(0);
  Items out;
  Items batch;
  for (Item& item : iterate(value)) {
    if (equal(static_cast<std::int64_t>(batch.size()), size)) {
      out.push_back(make_list(std::move(batch)));
      batch = {};
    }
    batch.push_back(std::move(item));
  }
  if (!batch.empty()) {
    while (given(reader.find(1)) && less(static_cast<std::int64_t>(batch.size()), size)) {
      Meter::charge();
      batch.push_back(*reader.find(1));
    }
    out.push_back(make_list(std::move(batch)));
  }
  return out;
}

Items slice_items(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("slice", arguments, {"slices", "fill_with"});
  const Items items = iterate(value);
  const std::int64_t slices = reader.integer(0);
  if (slices == 0) fail("ZeroDivisionError", "integer division or modulo by zero");
  const auto size = static_cast<std::int64_t>(items.size());
  const std::int64_t per_slice = slices < 0 ? 0 : size / slices;
  const std::int64_t with_extra = slices < 0 ? 0 : size % slices;
  Items out;
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < slices; ++i) {
    Meter::charge();
    const std::int64_t count = per_slice + (i < with_extra ? 1 : 0);
    Items part(items.begin() + at, items.begin() + at + count);
    at += count;
    if (given(reader.find(1)) && i >= with_extra) part.push_back(*reader.find(1));
    out.push_back(make_list(std::move(part)));
  }
  return out;
}

Item group_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("groupby", arguments, {"attribute", "default", "case_sensitive"});
  const bool case_sensitive = reader.truth_or(2, false);
  const Item fallback = reader.find(1) == nullptr ? Item() : *reader.find(1);
  struct Group {
    Item key;
    Item shown;
    Items items;
  };
  std::vector<Group> keyed;
  for (Item& item : iterate(value)) {
    const Item shown = get_path(item, reader.require(0), fallback);
    const Item key = case_sensitive ? shown : without_case(shown);
    keyed.push_back({key, shown, {std::move(item)}});
  }
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const Group& a, const Group& b) { return less(a.key, b.key); });
  Items out;
  for (std::size_t i = 0; i < keyed.size();) {
    Items members;
    const std::size_t first = i;
    for (; i < keyed.size() && equal(keyed[i].key, keyed[first].key); ++i)
      members.push_back(keyed[i].items[0]);
    out.push_back(std::make_shared<Sequence>(
        Kind::kTuple, Items{keyed[first].shown, make_list(std::move(members))}, kGroupTuple));
  }
  return make_list(std::move(out));
}

Items item_pairs(const Item& value, const Arguments&) {
  if (value.is_undefined()) return {};
  if (!value.is(Kind::kDict)) fail("TypeError", "Can only get item pairs from a mapping.");
  Items out;
  for (const auto& [key, item] : value.as<Dict>().entries) out.push_back(make_tuple({key, item}));
  return out;
}

Item dict_sort_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const bool case_sensitive = reader.truth_or(0, false);
  const std::string by = reader.text_or(1, "key");
  const bool reverse = reader.truth_or(2, false);
  if (by != "key" && by != "value")
    fail("FilterArgumentError", R"(You can only sort by either "key" or "value")");
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is(Kind::kDict))
    fail("AttributeError", "'" + type_name(value) + "' object has no attribute 'items'");
  auto entries = value.as<Dict>().entries;
  const auto key = [&](const std::pair<Item, Item>& entry) {
    const Item& item = by == "key" ? entry.first : entry.second;
    return case_sensitive ? item : without_case(item);
  };
  std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(key(b), key(a)) : less(key(a), key(b));
  });
  Items out;
  for (const auto& [name, item] : entries) out.push_back(make_tuple({name, item}));
  return make_list(std::move(out));
}

Item default_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("default", arguments, {"default_value", "boolean"});
  const bool replaces = value.is_undefined() || (reader.truth_or(1, false) && !truth(value));
  if (!replaces) return value;
  return reader.find(0) == nullptr ? Item("") : *reader.find(0);
}

Item attr_filter(const Item& value, const Arguments& arguments) {
  const std::string name = to_str(ArgumentReader("attr", arguments, {"name"}).require(0));
  if (value.is(Kind::kDict)) {
    if (auto method = find_method(value, name)) return *std::move(method);
    return make_undefined(repr_string(object_phrase(value)) + " has no attribute " +
                          repr_string(name));
  }
  return get_attribute(value, name);
}

constexpr NamedFilter kFilters[] = {
    {"length", length_filter},
    {"count", length_filter},
    {"list", list_filter},
    {"first", first_filter},
    {"last", last_filter},
    {"join", join_filter},
    {"map", map_filter},
    {"select", select_filter<false, true>},
    {"reject", select_filter<false, false>},
    {"selectattr", select_filter<true, true>},
    {"rejectattr", select_filter<true, false>},
    {"sort", sort_filter},
    {"reverse", reverse_filter},
    {"unique", made_later<unique_items>},
    {"min", extreme_filter<false>},
    {"max", extreme_filter<true>},
    {"sum", sum_filter},
    {"batch", made_later<batch_items>},
    {"slice", made_later<slice_items>},
    {"groupby", group_filter},
    {"items", made_later<item_pairs>},
    {"dictsort", dict_sort_filter},
    {"default", default_filter},
    {"d", default_filter},
    {"attr", attr_filter},
};

}  // namespace

std::span<const NamedFilter> collection_filters() { return kFilters; }

}  // namespace espalier::text::chat

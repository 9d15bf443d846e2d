#include "text/chat/item.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "espalier/base/utf8.h"
#include "text/chat/generator.h"
#include "text/chat/limits.h"
#include "text/chat/loop.h"

namespace espalier::text::chat {
namespace {

constexpr int kDeepestComparison = 200;

bool equal_at(const Item& left, const Item& right, int depth);

bool equal_items(const Items& left, const Items& right, int depth) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](const Item& a, const Item& b) { return equal_at(a, b, depth + 1); });
}

bool equal_dicts(const Dict& left, const Dict& right, int depth) {
  if (left.entries.size() != right.entries.size()) return false;
  return std::all_of(left.entries.begin(), left.entries.end(), [&](const auto& entry) {
    const Item* other = right.find(entry.first);
    return other != nullptr && equal_at(entry.second, *other, depth + 1);
  });
}

/// Views of the keys or pairs of dicts are sets; one of the values equals itself alone.
bool equal_views(const Sequence& left, const Sequence& right, int depth) {
  if (left.name == "dict_values" || right.name == "dict_values") return &left == &right;
  if (left.items.size() != right.items.size()) return false;
  return std::all_of(left.items.begin(), left.items.end(), [&](const Item& item) {
    return std::any_of(right.items.begin(), right.items.end(),
                       [&](const Item& other) { return equal_at(item, other, depth + 1); });
  });
}

bool equal_at(const Item& left, const Item& right, int depth) {
  if (depth > kDeepestComparison)
    fail("RecursionError", "maximum recursion depth exceeded in comparison");
  Meter::charge();
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_int() == right.as_int();
    return left.as_double() == right.as_double();
  }
  const Kind kind = left.kind();
  if (kind != right.kind()) return false;
  switch (kind) {
    case Kind::kNone:
    case Kind::kUndefined: return true;
    case Kind::kString: return left.as_string() == right.as_string();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      return equal_items(left.as<Sequence>().items, right.as<Sequence>().items, depth);
    case Kind::kView: return equal_views(left.as<Sequence>(), right.as<Sequence>(), depth);
    case Kind::kDict: return equal_dicts(left.as<Dict>(), right.as<Dict>(), depth);
    default: return left.identity() == right.identity();
  }
}

/// What containers that are going away still hold; null while none is.
thread_local Items* left_behind = nullptr;

/// Ends the values one by one. A container inside of a container leaves its own to the outermost,
/// so that lists in lists, of any depth, don't exhaust the stack.
void release(Items items) {
  if (left_behind != nullptr) {
    std::move(items.begin(), items.end(), std::back_inserter(*left_behind));
    return;
  }
  left_behind = &items;
  while (!items.empty()) {
    const Item last = std::move(items.back());
    items.pop_back();
  }
  left_behind = nullptr;
}

bool on_heap(const Item& item) { return item.identity() != nullptr; }

}  // namespace

Sequence::~Sequence() {
  if (std::any_of(items.begin(), items.end(), on_heap)) release(std::move(items));
}

Dict::~Dict() {
  Items values;
  for (auto& [key, value] : entries) {
    if (on_heap(key)) values.push_back(std::move(key));
    if (on_heap(value)) values.push_back(std::move(value));
  }
  if (!values.empty()) release(std::move(values));
}

void fail(std::string type, std::string message) {
  throw TemplateFailure{std::move(type), std::move(message)};
}

Kind Item::kind() const {
  switch (data_.index()) {
    case 0: return Kind::kNone;
    case 1: return Kind::kBool;
    case 2: return Kind::kInt;
    case 3: return Kind::kFloat;
    case 4:
    case 6: return Kind::kString;
    default: return std::get<std::shared_ptr<Instance>>(data_)->kind;
  }
}

bool Item::is_sequence() const {
  switch (kind()) {
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kGenerator:
    case Kind::kRange: return true;
    default: return false;
  }
}

std::int64_t Item::as_int() const {
  if (const bool* value = std::get_if<bool>(&data_)) return *value ? 1 : 0;
  return std::get<std::int64_t>(data_);
}

double Item::as_double() const {
  if (const double* value = std::get_if<double>(&data_)) return *value;
  return static_cast<double>(as_int());
}

Item Item::markup(std::string text) {
  Item item;
  item.data_ = Markup{std::make_shared<const std::string>(std::move(text))};
  return item;
}

const std::string& Item::as_string() const {
  if (const auto* markup = std::get_if<Markup>(&data_)) return *markup->text;
  return *std::get<std::shared_ptr<const std::string>>(data_);
}

const void* Item::identity() const {
  const auto* heap = std::get_if<std::shared_ptr<Instance>>(&data_);
  return heap == nullptr ? nullptr : heap->get();
}

const Item* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : entries)
    if (name.is_string() && name.as_string() == key) return &value;
  return nullptr;
}

const Item* Dict::find(const Item& key) const {
  if (key.is_string()) return find(std::string_view(key.as_string()));
  for (const auto& [name, value] : entries)
    if (equal(name, key)) return &value;
  return nullptr;
}

void Dict::set(const Item& key, Item value) {
  Meter::charge();
  if (const Item* found = find(key)) {
    *const_cast<Item*>(found) = std::move(value);
  } else {
    entries.emplace_back(key, std::move(value));
  }
}

Item make_undefined(std::string message, std::string type) {
  return std::make_shared<Undefined>(std::move(message), std::move(type));
}
Item make_list(Items items) {
  Meter::charge(items.size());
  return std::make_shared<Sequence>(Kind::kList, std::move(items));
}
Item make_tuple(Items items) {
  Meter::charge(items.size());
  return std::make_shared<Sequence>(Kind::kTuple, std::move(items));
}
Item make_function(std::string name, Function::Body body) {
  return std::make_shared<Function>(std::move(name), std::move(body));
}

void fail_undefined(const Item& item) {
  const auto& undefined = item.as<Undefined>();
  fail(undefined.type, undefined.message);
}

bool truth(const Item& item) {
  switch (item.kind()) {
    case Kind::kNone:
    case Kind::kUndefined: return false;
    case Kind::kBool: return item.as_bool();
    case Kind::kInt: return item.as_int() != 0;
    case Kind::kFloat: return item.as_double() != 0;
    case Kind::kString: return !item.as_string().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kRange: return !item.as<Sequence>().items.empty();
    case Kind::kDict: return !item.as<Dict>().entries.empty();
    default: return true;
  }
}

std::string type_name(const Item& item) {
  switch (item.kind()) {
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return item.is_markup() ? "Markup" : "str";
    case Kind::kUndefined: return "Undefined";
    case Kind::kList: return "list";
    case Kind::kTuple: return "tuple";
    case Kind::kDict: return "dict";
    case Kind::kView: return item.as<Sequence>().name;
    case Kind::kGenerator: return item.as<Generator>().name;
    case Kind::kRange: return "range";
    case Kind::kNamespace: return "Namespace";
    case Kind::kFunction: return "function";
    case Kind::kMacro: return "Macro";
    case Kind::kLoop: return "LoopContext";
  }
  return "object";
}

std::string object_phrase(const Item& item) {
  switch (item.kind()) {
    case Kind::kNone: return "None";
    case Kind::kNamespace: return "jinja2.utils.Namespace object";
    case Kind::kLoop:
    case Kind::kMacro: return "jinja2.runtime." + type_name(item) + " object";
    default: return type_name(item) + " object";
  }
}

bool equal(const Item& left, const Item& right) { return equal_at(left, right, 0); }

bool less(const Item& left, const Item& right, const char* operation) {
  Meter::charge();
  if (left.is_undefined()) fail_undefined(left);
  if (right.is_undefined()) fail_undefined(right);
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_int() < right.as_int();
    return left.as_double() < right.as_double();
  }
  // UTF-8 keeps the order of code points.
  if (left.is_string() && right.is_string()) return left.as_string() < right.as_string();
  const Kind kind = left.kind();
  if (kind == right.kind() && (kind == Kind::kList || kind == Kind::kTuple)) {
    const Items& a = left.as<Sequence>().items;
    const Items& b = right.as<Sequence>().items;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
      if (!equal(a[i], b[i])) return less(a[i], b[i], operation);
    return a.size() < b.size();
  }
  fail("TypeError", std::string("'") + operation + "' not supported between instances of '" +
                        type_name(left) + "' and '" + type_name(right) + "'");
}

Items iterate(const Item& item) {
  switch (item.kind()) {
    case Kind::kUndefined: return {};
    case Kind::kString: {
      Items chars;
      const std::string& text = item.as_string();
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t size = utf8_length(text[at]);
        chars.emplace_back(text.substr(at, size));
        at += size;
      }
      Meter::charge(chars.size());
      return chars;
    }
    case Kind::kGenerator: {
      Items items;
      ItemReader reader(item);
      while (const auto next = reader.next()) items.push_back(*next);
      return items;
    }
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kRange:
      Meter::charge(item.as<Sequence>().items.size());
      return item.as<Sequence>().items;
    case Kind::kDict: {
      Items keys;
      for (const auto& [key, value] : item.as<Dict>().entries) keys.push_back(key);
      Meter::charge(keys.size());
      return keys;
    }
    default: fail("TypeError", "'" + type_name(item) + "' object is not iterable");
  }
}

std::int64_t length(const Item& item) {
  switch (item.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString: return static_cast<std::int64_t>(count_code_points(item.as_string()));
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kRange: return static_cast<std::int64_t>(item.as<Sequence>().items.size());
    case Kind::kDict: return static_cast<std::int64_t>(item.as<Dict>().entries.size());
    case Kind::kLoop: return item.as<Loop>().count();
    default: fail("TypeError", "object of type '" + type_name(item) + "' has no len()");
  }
}

void check_hashable(const Item& item, int depth) {
  if (depth > kDeepestComparison) fail("RecursionError", "maximum recursion depth exceeded");
  if (item.is(Kind::kList) || item.is(Kind::kDict))
    fail("TypeError", "unhashable type: '" + type_name(item) + "'");
  if (item.is(Kind::kTuple))
    for (const Item& part : item.as<Sequence>().items) check_hashable(part, depth + 1);
}

}  // namespace espalier::text::chat

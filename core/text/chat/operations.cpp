#include "text/chat/operations.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/utf8.h"
#include "text/chat/generator.h"
#include "text/chat/limits.h"
#include "text/chat/loop.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

[[noreturn]] void fail_operands(std::string_view name, const Item& left, const Item& right) {
  const std::string shown = name == "**" ? "** or pow()" : std::string(name);
  fail("TypeError", "unsupported operand type(s) for " + shown + ": '" + type_name(left) +
                        "' and '" + type_name(right) + "'");
}

std::int64_t floor_divide(std::int64_t left, std::int64_t right) {
  if (right == -1) {
    std::int64_t out = 0;
    if (__builtin_sub_overflow(std::int64_t{0}, left, &out)) fail_overflow();
    return out;
  }
  const std::int64_t quotient = left / right;
  return left % right != 0 && ((left < 0) != (right < 0)) ? quotient - 1 : quotient;
}

Item integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  std::int64_t out = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(out, base, &out)) fail_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return out;
}

Item integer_operator(std::string_view name, std::int64_t left, std::int64_t right) {
  std::int64_t out = 0;
  bool overflow = false;
  if (name == "+") {
    overflow = __builtin_add_overflow(left, right, &out);
  } else if (name == "-") {
    overflow = __builtin_sub_overflow(left, right, &out);
  } else if (name == "*") {
    overflow = __builtin_mul_overflow(left, right, &out);
  } else if (name == "**") {
    return integer_power(left, right);
  } else if (right == 0) {
    fail("ZeroDivisionError",
         name == "/" ? "division by zero" : "integer division or modulo by zero");
  } else if (name == "/") {
    return static_cast<double>(left) / static_cast<double>(right);
  } else if (name == "//") {
    return floor_divide(left, right);
  } else {
    return right == -1 ? 0 : left - floor_divide(left, right) * right;
  }
  if (overflow) fail_overflow();
  return out;
}

Item float_operator(std::string_view name, double left, double right) {
  if (name == "+") return left + right;
  if (name == "-") return left - right;
  if (name == "*") return left * right;
  if (name == "**") {
    if (left == 0 && right < 0)
      fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    if (left < 0 && std::isfinite(left) && std::isfinite(right) && std::floor(right) != right)
      fail("ValueError", "a power in the template is a complex number");
    const double power = std::pow(left, right);
    if (std::isinf(power) && std::isfinite(left) && std::isfinite(right))
      fail("OverflowError", "Numerical result out of range");
    return power;
  }
  if (right == 0)
    fail("ZeroDivisionError", name == "/"    ? "float division by zero"
                              : name == "//" ? "float floor division by zero"
                                             : "float modulo");
  if (name == "/") return left / right;
  double remainder = std::fmod(left, right);
  double quotient = (left - remainder) / right;
  if (remainder != 0 && (remainder < 0) != (right < 0)) remainder += right, quotient -= 1;
  if (name == "%") return remainder == 0 ? std::copysign(0.0, right) : remainder;
  return quotient == 0 ? std::copysign(0.0, left / right) : std::floor(quotient + 0.5);
}

Item repeat(const Item& item, std::int64_t times) {
  if (item.is_string()) return text_like(item, repeated(item.as_string(), times));
  const Items& items = item.as<Sequence>().items;
  Items out;
  if (times > 0) {
    if (!items.empty() && static_cast<std::uint64_t>(times) > kMostSteps / items.size())
      Meter::charge(kMostSteps);
    Meter::charge(items.size() * static_cast<std::size_t>(times));
  }
  for (std::int64_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  return item.is(Kind::kList) ? make_list(std::move(out)) : make_tuple(std::move(out));
}

Item concatenate(const Item& left, const Item& right) {
  if (left.is_string() && right.is_string()) {
    Meter::charge_bytes(left.as_string().size() + right.as_string().size());
    if (left.is_markup() || right.is_markup()) return Item::markup(escaped(left) + escaped(right));
    return left.as_string() + right.as_string();
  }
  if (left.is_list_or_tuple() && left.kind() == right.kind()) {
    Items items = left.as<Sequence>().items;
    const Items& more = right.as<Sequence>().items;
    items.insert(items.end(), more.begin(), more.end());
    return left.is(Kind::kList) ? make_list(std::move(items)) : make_tuple(std::move(items));
  }
  if (left.is_string() || left.is_list_or_tuple())
    fail("TypeError", "can only concatenate " + type_name(left) + " (not \"" + type_name(right) +
                          "\") to " + type_name(left));
  fail_operands("+", left, right);
}

bool is_internal_name(const std::string& name) {
  constexpr std::string_view kNames[] = {"__class__",
                                         "__dict__",
                                         "__doc__",
                                         "__init__",
                                         "__len__",
                                         "__eq__",
                                         "__hash__",
                                         "__repr__",
                                         "__str__",
                                         "__new__",
                                         "__dir__",
                                         "__ne__",
                                         "__lt__",
                                         "__gt__",
                                         "__le__",
                                         "__ge__",
                                         "__reduce__",
                                         "__format__",
                                         "__sizeof__",
                                         "__getattribute__",
                                         "__setattr__",
                                         "__delattr__",
                                         "__init_subclass__",
                                         "__subclasshook__",
                                         "__reduce_ex__"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Item unsafe_attribute(const Item& item, const std::string& name) {
  return make_undefined("access to attribute " + repr_string(name) + " of " +
                            repr_string(type_name(item)) + " object is unsafe.",
                        "SecurityError");
}

Item missing(const Item& item, const Item& name) {
  if (name.is_string())
    return make_undefined(repr_string(object_phrase(item)) + " has no attribute " + repr(name));
  return make_undefined(object_phrase(item) + " has no element " + repr(name));
}

/// item[key], or nothing where Python raises TypeError, KeyError or IndexError.
std::optional<Item> find_element(const Item& item, const Item& key) {
  if (item.is(Kind::kDict)) {
    if (key.is(Kind::kList) || key.is(Kind::kDict)) return std::nullopt;
    const Item* found = item.as<Dict>().find(key);
    return found == nullptr ? std::nullopt : std::optional<Item>(*found);
  }
  if (item.is(Kind::kFunction) && item.as<Function>().name == "dict")  // a generic type in Python
    fail("TypeError", "a template can't take an element of the type dict");
  if (!key.is_integral()) return std::nullopt;
  std::int64_t place = key.as_int();
  if (item.is_string()) {
    const std::int64_t size = length(item);
    if (place < 0) place += size;
    if (place < 0 || place >= size) return std::nullopt;
    const auto begin = static_cast<std::size_t>(place);
    return text_like(item, substring(item.as_string(), begin, begin + 1));
  }
  if (!item.is_list_or_tuple() && !item.is(Kind::kRange)) return std::nullopt;
  const Items& items = item.as<Sequence>().items;
  if (place < 0) place += static_cast<std::int64_t>(items.size());
  if (place < 0 || place >= static_cast<std::int64_t>(items.size())) return std::nullopt;
  return items[static_cast<std::size_t>(place)];
}

/// Properties of the objects that Jinja itself provides.
std::optional<Item> find_property(const Item& item, const std::string& name) {
  if (item.is(Kind::kLoop)) return loop_attribute(item, name);
  if (item.is(Kind::kNamespace)) {
    const Item* found = item.as<Namespace>().attributes.find(std::string_view(name));
    return found == nullptr ? std::nullopt : std::optional<Item>(*found);
  }
  if (item.is(Kind::kFunction) || item.is(Kind::kMacro))
    for (const auto& [attribute, value] : item.as<Function>().attributes)
      if (attribute == name) return value;
  if (item.is(Kind::kTuple) && item.as<Sequence>().name == kGroupTuple) {
    if (name == "grouper") return item.as<Sequence>().items[0];
    if (name == "list") return item.as<Sequence>().items[1];
  }
  return find_method(item, name);
}

std::int64_t slice_bound(const Item& bound, std::int64_t fallback, std::int64_t size,
                         bool reverse) {
  if (bound.is_none()) return fallback;
  std::int64_t place = bound.as_int();
  if (place < 0) place = std::max<std::int64_t>(place + size, reverse ? -1 : 0);
  return std::min(place, reverse ? size - 1 : size);
}

}  // namespace

void fail_overflow(std::uint32_t line) {
  throw TemplateFailure{"OverflowError", "an integer of the template exceeds 64 bits", line};
}

Item text_like(const Item& model, std::string text) {
  return model.is_markup() ? Item::markup(std::move(text)) : Item(std::move(text));
}

Item apply_operator(std::string_view name, const Item& left, const Item& right) {
  if (left.is_undefined()) fail_undefined(left);
  if (name == "%" && left.is_string()) return percent_format(left, right);
  if (right.is_undefined()) fail_undefined(right);
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral())
      return integer_operator(name, left.as_int(), right.as_int());
    return float_operator(name, left.as_double(), right.as_double());
  }
  if (name == "+") return concatenate(left, right);
  if (name == "*") {
    const auto repeats = [](const Item& item) {
      return item.is_string() || item.is_list_or_tuple();
    };
    if (repeats(left) && right.is_integral()) return repeat(left, right.as_int());
    if (repeats(right) && left.is_integral()) return repeat(right, left.as_int());
    if (repeats(left) || repeats(right))
      fail("TypeError", "can't multiply sequence by non-int of type '" +
                            type_name(repeats(left) ? right : left) + "'");
  }
  fail_operands(name, left, right);
}

Item negate(const Item& item) {
  if (item.is_undefined()) fail_undefined(item);
  if (item.is(Kind::kFloat)) return -item.as_double();
  if (!item.is_integral())
    fail("TypeError", "bad operand type for unary -: '" + type_name(item) + "'");
  return integer_operator("-", 0, item.as_int());
}

bool contains(const Item& container, const Item& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (item.is_undefined())
        fail("TypeError", "'in <string>' requires string as left operand, not Undefined");
      if (!item.is_string())
        fail("TypeError", "'in <string>' requires string as left operand, not " + type_name(item));
      return container.as_string().find(item.as_string()) != std::string::npos;
    case Kind::kDict: check_hashable(item); return container.as<Dict>().find(item) != nullptr;
    case Kind::kUndefined:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kGenerator:
    case Kind::kRange: {
      ItemReader reader(container);
      while (const auto candidate = reader.next())
        if (equal(*candidate, item)) return true;
      return false;
    }
    default: fail("TypeError", "argument of type '" + type_name(container) + "' is not iterable");
  }
}

bool compare(std::string_view name, const Item& left, const Item& right) {
  if (name == "==") return equal(left, right);
  if (name == "!=") return !equal(left, right);
  if (name == "in") return contains(right, left);
  if (name == "not in") return !contains(right, left);
  const bool ordered =
      (left.is_number() && right.is_number()) ||
      (left.kind() == right.kind() && (left.is_string() || left.is_list_or_tuple()));
  if (!ordered) less(left, right, std::string(name).c_str());
  if (left.is(Kind::kFloat) || right.is(Kind::kFloat)) {  // NaN is neither less nor greater
    const double a = left.as_double();
    const double b = right.as_double();
    return name == "<" ? a < b : name == "<=" ? a <= b : name == ">" ? a > b : a >= b;
  }
  if (name == "<") return less(left, right, "<");
  if (name == ">") return less(right, left, ">");
  if (name == "<=") return !less(right, left, "<=");
  return !less(left, right, ">=");
}

Item get_attribute(const Item& item, const std::string& name) {
  if (item.is_undefined()) {
    if (is_internal_name(name)) return unsafe_attribute(item, name);
    fail_undefined(item);
  }
  if (is_internal_name(name)) return unsafe_attribute(item, name);
  if (auto property = find_property(item, name)) return *std::move(property);
  if (auto element = find_element(item, Item(name))) return *std::move(element);
  return missing(item, Item(name));
}

Item get_element(const Item& item, const Item& key) {
  if (item.is_undefined()) fail_undefined(item);
  if (auto element = find_element(item, key)) return *std::move(element);
  if (key.is_string()) {
    if (is_internal_name(key.as_string())) return unsafe_attribute(item, key.as_string());
    if (auto property = find_property(item, key.as_string())) return *std::move(property);
  }
  return missing(item, key);
}

Item get_slice(const Item& item, const Item& start, const Item& stop, const Item& step) {
  if (item.is_undefined()) fail_undefined(item);
  const auto is_bound = [](const Item& bound) { return bound.is_none() || bound.is_integral(); };
  const bool sliceable = item.is_string() || item.is_list_or_tuple() || item.is(Kind::kRange);
  if (!sliceable || !is_bound(start) || !is_bound(stop) || !is_bound(step))
    return make_undefined(object_phrase(item) + " has no element slice(" + repr(start) + ", " +
                          repr(stop) + ", " + repr(step) + ")");
  const std::int64_t stride = step.is_none() ? 1 : step.as_int();
  if (stride == 0) fail("ValueError", "slice step cannot be zero");
  const bool reverse = stride < 0;
  const std::u32string points =
      item.is_string() ? to_code_points(item.as_string()) : std::u32string();
  const std::int64_t size = length(item);
  const std::int64_t first = slice_bound(start, reverse ? size - 1 : 0, size, reverse);
  const std::int64_t last = slice_bound(stop, reverse ? -1 : size, size, reverse);
  if (item.is(Kind::kRange)) {
    const auto& range = item.as<Sequence>();
    const auto times_step = [&](std::int64_t factor) {
      return integer_operator("*", factor, range.step).as_int();
    };
    const auto place = [&](std::int64_t at) {
      return integer_operator("+", range.start, times_step(at)).as_int();
    };
    return make_range(place(first), place(last), times_step(stride));
  }
  std::string text;
  Items items;
  for (std::int64_t i = first; reverse ? i > last : i < last;) {
    Meter::charge();
    if (item.is_string()) {
      append_utf8(text, points[static_cast<std::size_t>(i)]);
    } else {
      items.push_back(item.as<Sequence>().items[static_cast<std::size_t>(i)]);
    }
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  if (item.is_string()) return text_like(item, std::move(text));
  return item.is(Kind::kTuple) ? make_tuple(std::move(items)) : make_list(std::move(items));
}

Item call(const Item& callee, const Arguments& arguments) {
  Meter::charge();
  if (callee.is_undefined()) fail_undefined(callee);
  if (callee.is(Kind::kLoop)) return call_loop(callee, arguments);
  if (!callee.is(Kind::kFunction) && !callee.is(Kind::kMacro))
    fail("TypeError", "'" + type_name(callee) + "' object is not callable");
  return callee.as<Function>().body(arguments);
}

}  // namespace espalier::text::chat

// The tests of `x is test`.
#include <cmath>
#include <map>

#include "espalier/base/utf8.h"
#include "text/chat/operations.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

template <Kind Wanted>
Item is_kind(const Item& value, const Arguments&) {
  return value.is(Wanted);
}

Item is_defined(const Item& value, const Arguments&) { return !value.is_undefined(); }
Item is_number_test(const Item& value, const Arguments&) { return value.is_number(); }
Item is_mapping(const Item& value, const Arguments&) { return value.is(Kind::kDict); }
Item is_sequence_test(const Item& value, const Arguments&) {
  // len() and item access both have to work.
  return value.is_string() || value.is(Kind::kList) || value.is(Kind::kTuple) ||
         value.is(Kind::kDict) || value.is(Kind::kRange) || value.is_undefined();
}
Item is_iterable(const Item& value, const Arguments&) {
  return value.is_string() || value.is_sequence() || value.is(Kind::kDict) ||
         value.is_undefined() || value.is(Kind::kLoop);
}
Item is_callable(const Item& value, const Arguments&) {
  return value.is(Kind::kFunction) || value.is(Kind::kMacro) || value.is(Kind::kLoop) ||
         value.is_undefined();
}
Item is_true(const Item& value, const Arguments&) {
  return value.is(Kind::kBool) && value.as_bool();
}
Item is_false(const Item& value, const Arguments&) {
  return value.is(Kind::kBool) && !value.as_bool();
}
Item is_odd(const Item& value, const Arguments&) { return equal(apply_operator("%", value, 2), 1); }
Item is_even(const Item& value, const Arguments&) {
  return equal(apply_operator("%", value, 2), 0);
}
Item is_divisible(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("divisibleby", arguments, {"num"});
  return equal(apply_operator("%", value, reader.require(0)), 0);
}

Item is_same(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("sameas", arguments, {"other"});
  const Item& other = reader.require(0);
  if (value.identity() != nullptr || other.identity() != nullptr)
    return value.identity() == other.identity();
  return value.kind() == other.kind() && equal(value, other);
}

Item is_in(const Item& value, const Arguments& arguments) {
  return contains(ArgumentReader("in", arguments, {"seq"}).require(0), value);
}

Item is_lower_test(const Item& value, const Arguments&) {
  const std::string text = to_str(value);
  return lower(text) == text && upper(text) != text;
}
Item is_upper_test(const Item& value, const Arguments&) {
  const std::string text = to_str(value);
  return upper(text) == text && lower(text) != text;
}

Item is_filter(const Item& value, const Arguments&) {
  return value.is_string() && find_filter(value.as_string()) != nullptr;
}
Item is_test(const Item& value, const Arguments&) {
  return value.is_string() && find_test(value.as_string()) != nullptr;
}
Item is_escaped(const Item& value, const Arguments&) { return value.is_markup(); }

/// Each operator has a type of its own here, so that it can be a plain function.
struct EqualName {
  static constexpr const char* kName = "==";
};
struct UnequalName {
  static constexpr const char* kName = "!=";
};
struct LessName {
  static constexpr const char* kName = "<";
};
struct LessEqualName {
  static constexpr const char* kName = "<=";
};
struct GreaterName {
  static constexpr const char* kName = ">";
};
struct GreaterEqualName {
  static constexpr const char* kName = ">=";
};

template <class Name>
Item compares(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("comparison", arguments, {"b"});
  return compare(Name::kName, value, reader.require(0));
}

}  // namespace

Builtin find_test(std::string_view name) {
  static const std::map<std::string, Builtin, std::less<>> kTests = {
      {"defined", is_defined},
      {"undefined", is_kind<Kind::kUndefined>},
      {"none", is_kind<Kind::kNone>},
      {"string", is_kind<Kind::kString>},
      {"number", is_number_test},
      {"integer", is_kind<Kind::kInt>},
      {"float", is_kind<Kind::kFloat>},
      {"boolean", is_kind<Kind::kBool>},
      {"true", is_true},
      {"false", is_false},
      {"mapping", is_mapping},
      {"sequence", is_sequence_test},
      {"iterable", is_iterable},
      {"callable", is_callable},
      {"odd", is_odd},
      {"even", is_even},
      {"divisibleby", is_divisible},
      {"sameas", is_same},
      {"in", is_in},
      {"lower", is_lower_test},
      {"upper", is_upper_test},
      {"filter", is_filter},
      {"test", is_test},
      {"escaped", is_escaped},
      {"equalto", compares<EqualName>},
      {"eq", compares<EqualName>},
      {"==", compares<EqualName>},
      {"ne", compares<UnequalName>},
      {"!=", compares<UnequalName>},
      {"lt", compares<LessName>},
      {"lessthan", compares<LessName>},
      {"<", compares<LessName>},
      {"le", compares<LessEqualName>},
      {"<=", compares<LessEqualName>},
      {"gt", compares<GreaterName>},
      {"greaterthan", compares<GreaterName>},
      {">", compares<GreaterName>},
      {"ge", compares<GreaterEqualName>},
      {">=", compares<GreaterEqualName>},
  };
  const auto found = kTests.find(name);
  return found == kTests.end() ? nullptr : found->second;
}

bool apply_test(const std::string& name, const Item& value, const Arguments& arguments) {
  const Builtin test = find_test(name);
  if (test == nullptr) fail("TemplateRuntimeError", "No test named " + repr_string(name) + ".");
  return truth(test(value, arguments));
}

}  // namespace espalier::text::chat

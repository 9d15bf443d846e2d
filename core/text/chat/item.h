#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace espalier::text::chat {

/// An exception of the template language: the Python type that Jinja raises, and its message.
struct TemplateFailure {
  std::string type;
  std::string message;
  std::uint32_t line = 0;  ///< of the template; 0 until it is known
};

[[noreturn]] void fail(std::string type, std::string message);

enum class Kind {
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kUndefined,
  kList,
  kTuple,
  kDict,
  kView,
  kGenerator,
  kRange,
  kNamespace,
  kFunction,
  kMacro,
  kLoop,
};

/// What a value on the heap derives from.
struct Instance {
  explicit Instance(Kind instance_kind) : kind(instance_kind) {}
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  virtual ~Instance() = default;
  const Kind kind;
};

/// A value of the template language, with Python's semantics. Cheap to copy; containers are shared.
class Item {
 public:
  Item() = default;
  Item(bool value) : data_(value) {}               // NOLINT(google-explicit-constructor)
  Item(int value) : data_(std::int64_t{value}) {}  // NOLINT(google-explicit-constructor)
  Item(std::int64_t value) : data_(value) {}       // NOLINT(google-explicit-constructor)
  Item(double value) : data_(value) {}             // NOLINT(google-explicit-constructor)
  Item(std::string value)                          // NOLINT(google-explicit-constructor)
      : data_(std::make_shared<const std::string>(std::move(value))) {}
  Item(std::string_view value) : Item(std::string(value)) {}  // NOLINT(google-explicit-constructor)
  Item(const char* value) : Item(std::string(value)) {}       // NOLINT(google-explicit-constructor)
  template <class T>
  requires std::derived_from<T, Instance> Item(
      std::shared_ptr<T> value)  // NOLINT(google-explicit-constructor)
      : data_(std::shared_ptr<Instance>(std::move(value))) {}

  /// A string that is escaped for HTML: a plain one that is joined to it is escaped first.
  static Item markup(std::string text);

  Kind kind() const;
  bool is(Kind wanted) const { return kind() == wanted; }
  bool is_none() const { return is(Kind::kNone); }
  bool is_string() const { return is(Kind::kString); }
  bool is_markup() const { return std::holds_alternative<Markup>(data_); }
  bool is_undefined() const { return is(Kind::kUndefined); }
  /// Boolean or integer, which Python lets count as one.
  bool is_integral() const { return is(Kind::kBool) || is(Kind::kInt); }
  bool is_number() const { return is_integral() || is(Kind::kFloat); }
  /// List, tuple, dict view, generator or range.
  bool is_sequence() const;
  bool is_list_or_tuple() const { return is(Kind::kList) || is(Kind::kTuple); }

  bool as_bool() const { return std::get<bool>(data_); }
  std::int64_t as_int() const;  ///< integral values
  double as_double() const;     ///< numbers
  const std::string& as_string() const;
  template <class T>
  T& as() const {
    return static_cast<T&>(*std::get<std::shared_ptr<Instance>>(data_));
  }
  /// Address of the heap object; null for scalars.
  const void* identity() const;

 private:
  struct Markup {
    std::shared_ptr<const std::string> text;
  };
  std::variant<std::monostate, bool, std::int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<Instance>, Markup>
      data_;
};

using Items = std::vector<Item>;

struct Undefined final : Instance {
  Undefined(std::string error_message, std::string error_type)
      : Instance(Kind::kUndefined),
        message(std::move(error_message)),
        type(std::move(error_type)) {}
  std::string message;  ///< of the error that its use raises
  std::string type;
};

/// Lists, tuples, ranges and views of dicts.
struct Sequence final : Instance {
  Sequence(Kind sequence_kind, Items values, std::string label = {})
      : Instance(sequence_kind), items(std::move(values)), name(std::move(label)) {}
  ~Sequence() override;
  Items items;
  std::string name;        ///< views: "dict_keys"; ranges: their repr
  std::int64_t start = 0;  ///< of a range
  std::int64_t step = 1;
};

/// Name of the pairs that groupby makes; their parts are attributes too.
inline constexpr const char* kGroupTuple = "_GroupTuple";

struct Dict final : Instance {
  Dict() : Instance(Kind::kDict) {}
  ~Dict() override;
  std::vector<std::pair<Item, Item>> entries;  ///< in the order of insertion

  const Item* find(const Item& key) const;
  const Item* find(std::string_view key) const;
  void set(const Item& key, Item value);
};

struct Namespace final : Instance {
  Namespace() : Instance(Kind::kNamespace) {}
  Dict attributes;
};

/// Positional and named arguments of a call.
struct Arguments {
  Items positional;
  std::vector<std::pair<std::string, Item>> named;
};

struct Function : Instance {
  using Body = std::function<Item(const Arguments&)>;
  Function(std::string function_name, Body function_body, Kind function_kind = Kind::kFunction)
      : Instance(function_kind), name(std::move(function_name)), body(std::move(function_body)) {}
  std::string name;
  Body body;
  std::vector<std::pair<std::string, Item>> attributes;  ///< of macros, cyclers and the like
  Item receiver;                                         ///< the loop that this is a method of
};

Item make_undefined(std::string message, std::string type = "UndefinedError");
Item make_list(Items items);
Item make_tuple(Items items);
Item make_function(std::string name, Function::Body body);

/// Raises the error of an undefined value.
[[noreturn]] void fail_undefined(const Item& item);

bool truth(const Item& item);
/// Python's type(item).__name__.
std::string type_name(const Item& item);
/// "dict object", as Jinja names a value in messages.
std::string object_phrase(const Item& item);

bool equal(const Item& left, const Item& right);
/// left < right; TypeError when the types have no order.
bool less(const Item& left, const Item& right, const char* operation = "<");

/// Python's str() and repr().
std::string to_str(const Item& item);
/// str(), escaped for HTML unless it is so already.
std::string escaped(const Item& item);
std::string repr(const Item& item);
std::string repr_string(std::string_view text);
/// Appends the escape of a character in repr(), such as \x7f.
void append_escaped(std::string& out, char32_t point);
std::string repr_float(double value);

/// The items that iteration gives; TypeError for what can't be iterated. Uses up generators.
Items iterate(const Item& item);
/// Python's len(); TypeError where there is none.
std::int64_t length(const Item& item);
/// Raises TypeError when `item` can't be a key of a dict.
void check_hashable(const Item& item, int depth = 0);

}  // namespace espalier::text::chat

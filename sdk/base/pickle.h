#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// What a pickle describes: plain data, and calls of the few functions that a reader knows, as
/// data. Items are owned by the PickleReader.
struct PickleValue {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kBytes,
    kTuple,
    kList,
    kDict,        ///< `items`: key, value, key, value, ...
    kGlobal,      ///< `text`: "module.name"
    kCall,        ///< `text`: the function; `items`: its arguments
    kPersistent,  ///< something outside of the pickle; `items`: what says which
    kMark,
  };
  Kind kind = Kind::kNone;
  std::int64_t integer = 0;  ///< of an int or bool; LONG_MIN where an int is beyond 64 bits
  double number = 0;
  std::string text;
  std::vector<const PickleValue*> items = {};

  bool is(Kind other) const { return kind == other; }
};

/// Reads Python pickles of protocol 2 to 5 as data: nothing is imported or called, and a name that
/// is not on the reader's list is refused at once. Memory and time are bounded by the pickle's
/// length. Source: Lib/pickletools.py of CPython.
class ESPALIER_API PickleReader {
 public:
  /// `names` are the globals ("module.name") that a pickle may mention; `where` names it in errors.
  PickleReader(std::span<const std::byte> bytes, std::vector<std::string> names, std::string where);

  /// The pickle that begins at `position()`, which moves behind it. Throws Error(kBadInput). The
  /// value lives as long as this object and may hold itself.
  const PickleValue& read();
  /// Bytes read so far.
  std::uint64_t position() const { return position_; }

 private:
  using Kind = PickleValue::Kind;

  bool step(unsigned char code);
  bool step_containers(unsigned char code);
  bool step_names(unsigned char code);
  bool step_numbers(unsigned char code);
  bool step_texts(unsigned char code);

  std::uint64_t take_number(int bytes);
  std::string take(std::uint64_t size);
  std::string take_line();
  void take_long(std::uint64_t size);
  PickleValue& push(Kind kind);
  PickleValue& push_text(Kind kind, std::uint64_t size);
  PickleValue* pop();
  PickleValue& top();
  std::vector<const PickleValue*> pop_to_mark();
  void push_tuple(std::size_t size);
  void push_global(const std::string& module, const std::string& name);
  void append(const std::vector<const PickleValue*>& items, Kind kind);
  void call();
  [[noreturn]] void refuse(const std::string& what, const std::string& found = {}) const;

  std::span<const std::byte> bytes_;
  std::vector<std::string> names_;
  std::string where_;
  std::uint64_t position_ = 0;
  std::deque<PickleValue> values_;
  std::vector<PickleValue*> stack_;
  std::map<std::uint64_t, PickleValue*> memo_;
};

}  // namespace espalier

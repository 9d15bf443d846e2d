#include "espalier/base/pickle.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <limits>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr int kFirstProtocol = 2;
constexpr int kLastProtocol = 5;

std::string code_text(unsigned char code) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%02x", code);
  return text;
}

}  // namespace

PickleReader::PickleReader(std::span<const std::byte> bytes, std::vector<std::string> names,
                           std::string where)
    : bytes_(bytes), names_(std::move(names)), where_(std::move(where)) {}

void PickleReader::refuse(const std::string& what, const std::string& found) const {
  throw_bad_input("the pickle " + what, found, "tensors and plain data, as torch.save writes them",
                  where_ + ", byte " + std::to_string(position_),
                  "nothing of it was executed; fetch the file again, or the model as safetensors");
}

const PickleValue& PickleReader::read() {
  stack_.clear();
  memo_.clear();
  while (step(static_cast<unsigned char>(take_number(1)))) {
  }
  if (stack_.size() != 1) refuse("ends with " + std::to_string(stack_.size()) + " values");
  return *stack_.back();
}

/// One operation; false after the last.
bool PickleReader::step(unsigned char code) {
  switch (code) {
    case '.':  // STOP
      return false;
    case 0x80: {  // PROTO
      const auto protocol = static_cast<int>(take_number(1));
      if (protocol < kFirstProtocol || protocol > kLastProtocol)
        refuse("is of an unknown protocol", std::to_string(protocol));
      return true;
    }
    case 0x95:  // FRAME
      take_number(8);
      return true;
    default: break;
  }
  if (step_containers(code) || step_names(code) || step_numbers(code) || step_texts(code))
    return true;
  refuse("has an operation that is not data", code_text(code));
}

bool PickleReader::step_containers(unsigned char code) {
  switch (code) {
    case '(':  // MARK
      push(Kind::kMark);
      return true;
    case '0':  // POP
      pop();
      return true;
    case '1':  // POP_MARK
      pop_to_mark();
      return true;
    case '2':  // DUP
      stack_.push_back(&top());
      return true;
    case ')':  // EMPTY_TUPLE
      push(Kind::kTuple);
      return true;
    case 0x85:  // TUPLE1, 2, 3
    case 0x86:
    case 0x87: push_tuple(code - 0x84U); return true;
    case 't': {  // TUPLE
      std::vector<const PickleValue*> items = pop_to_mark();
      push(Kind::kTuple).items = std::move(items);
      return true;
    }
    case ']':  // EMPTY_LIST
      push(Kind::kList);
      return true;
    case '}':  // EMPTY_DICT
      push(Kind::kDict);
      return true;
    case 'a':  // APPEND
      append({pop()}, Kind::kList);
      return true;
    case 'e':  // APPENDS
      append(pop_to_mark(), Kind::kList);
      return true;
    case 's': {  // SETITEM
      const PickleValue* value = pop();
      append({pop(), value}, Kind::kDict);
      return true;
    }
    case 'u': {  // SETITEMS
      const std::vector<const PickleValue*> items = pop_to_mark();
      if (items.size() % 2 != 0) refuse("has a key without a value");
      append(items, Kind::kDict);
      return true;
    }
    default: return false;
  }
}

bool PickleReader::step_names(unsigned char code) {
  switch (code) {
    case 'c': {  // GLOBAL
      const std::string module = take_line();
      push_global(module, take_line());
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const PickleValue* name = pop();
      const PickleValue* module = pop();
      if (!name->is(Kind::kString) || !module->is(Kind::kString)) refuse("has a name that is none");
      push_global(module->text, name->text);
      return true;
    }
    case 'R':  // REDUCE
      call();
      return true;
    case 'b':  // BUILD: attributes, which the data does not need (_metadata of a state dict)
      pop();
      if (!top().is(Kind::kDict) && !top().is(Kind::kCall))
        refuse("gives attributes to plain data");
      return true;
    case 'Q': {  // BINPERSID
      const PickleValue* which = pop();
      if (!which->is(Kind::kTuple)) refuse("refers to something unknown outside of it");
      push(Kind::kPersistent).items = which->items;
      return true;
    }
    case 'q':  // BINPUT
      memo_[take_number(1)] = &top();
      return true;
    case 'r':  // LONG_BINPUT
      memo_[take_number(4)] = &top();
      return true;
    case 0x94:  // MEMOIZE
      memo_.emplace(memo_.size(), &top());
      return true;
    case 'h':    // BINGET
    case 'j': {  // LONG_BINGET
      const auto found = memo_.find(take_number(code == 'h' ? 1 : 4));
      if (found == memo_.end()) refuse("recalls a value that it never kept");
      stack_.push_back(found->second);
      return true;
    }
    default: return false;
  }
}

bool PickleReader::step_numbers(unsigned char code) {
  switch (code) {
    case 'N': push(Kind::kNone); return true;
    case 0x88:  // NEWTRUE, NEWFALSE
    case 0x89: push(Kind::kBool).integer = code == 0x88 ? 1 : 0; return true;
    case 'K':  // BININT1
      push(Kind::kInt).integer = static_cast<std::int64_t>(take_number(1));
      return true;
    case 'M':  // BININT2
      push(Kind::kInt).integer = static_cast<std::int64_t>(take_number(2));
      return true;
    case 'J':  // BININT
      push(Kind::kInt).integer = static_cast<std::int32_t>(take_number(4));
      return true;
    case 0x8a:  // LONG1
      take_long(take_number(1));
      return true;
    case 0x8b:  // LONG4
      take_long(take_number(4));
      return true;
    case 'G': {  // BINFLOAT, big endian
      std::uint64_t bits = 0;
      for (int i = 0; i < 8; ++i) bits = bits << 8 | take_number(1);
      push(Kind::kFloat).number = std::bit_cast<double>(bits);
      return true;
    }
    default: return false;
  }
}

bool PickleReader::step_texts(unsigned char code) {
  switch (code) {
    case 'X':  // BINUNICODE
      push_text(Kind::kString, take_number(4));
      return true;
    case 0x8c:  // SHORT_BINUNICODE
      push_text(Kind::kString, take_number(1));
      return true;
    case 0x8d:  // BINUNICODE8
      push_text(Kind::kString, take_number(8));
      return true;
    case 'U':  // SHORT_BINSTRING, as Python 2 wrote it
      push_text(Kind::kString, take_number(1));
      return true;
    case 'T':  // BINSTRING
      push_text(Kind::kString, take_number(4));
      return true;
    case 'C':  // SHORT_BINBYTES
      push_text(Kind::kBytes, take_number(1));
      return true;
    case 'B':  // BINBYTES
      push_text(Kind::kBytes, take_number(4));
      return true;
    default: return false;
  }
}

std::uint64_t PickleReader::take_number(int bytes) {
  if (bytes_.size() - position_ < static_cast<std::uint64_t>(bytes)) refuse("is cut short");
  std::uint64_t value = 0;
  for (int i = bytes; i-- > 0;)
    value = value << 8 |
            std::to_integer<std::uint64_t>(bytes_[position_ + static_cast<std::size_t>(i)]);
  position_ += static_cast<std::uint64_t>(bytes);
  return value;
}

std::string PickleReader::take(std::uint64_t size) {
  if (bytes_.size() - position_ < size) refuse("is cut short");
  std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, size);
  position_ += size;
  return text;
}

std::string PickleReader::take_line() {
  std::string line;
  for (char c = 0; (c = static_cast<char>(take_number(1))) != '\n';) line += c;
  return line;
}

/// Two's complement of any length.
void PickleReader::take_long(std::uint64_t size) {
  const std::string digits = take(size);
  std::int64_t value = digits.empty() || static_cast<signed char>(digits.back()) >= 0 ? 0 : -1;
  for (std::size_t i = std::min<std::size_t>(digits.size(), 8); i-- > 0;)
    value = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) << 8 |
                                      static_cast<unsigned char>(digits[i]));
  if (digits.size() > 8) {
    // The magic number of the older form; no count is that large.
    value = std::numeric_limits<std::int64_t>::min();
  }
  PickleValue& pushed = push(Kind::kInt);
  pushed.integer = value;
  pushed.text = digits;
}

PickleValue& PickleReader::push(Kind kind) {
  values_.push_back({.kind = kind});
  stack_.push_back(&values_.back());
  return values_.back();
}

PickleValue& PickleReader::push_text(Kind kind, std::uint64_t size) {
  std::string text = take(size);
  PickleValue& value = push(kind);
  value.text = std::move(text);
  return value;
}

PickleValue* PickleReader::pop() {
  PickleValue* value = &top();
  stack_.pop_back();
  return value;
}

PickleValue& PickleReader::top() {
  if (stack_.empty() || stack_.back()->is(Kind::kMark)) refuse("takes a value that is not there");
  return *stack_.back();
}

std::vector<const PickleValue*> PickleReader::pop_to_mark() {
  std::size_t begin = stack_.size();
  while (begin > 0 && !stack_[begin - 1]->is(Kind::kMark)) --begin;
  if (begin == 0) refuse("closes a list that was never opened");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(begin);
  std::vector<const PickleValue*> items(first, stack_.end());
  stack_.erase(first - 1, stack_.end());
  return items;
}

void PickleReader::push_tuple(std::size_t size) {
  std::vector<const PickleValue*> items(size);
  while (size > 0) items[--size] = pop();
  push(Kind::kTuple).items = std::move(items);
}

void PickleReader::push_global(const std::string& module, const std::string& name) {
  const std::string full = module + "." + name;
  if (std::find(names_.begin(), names_.end(), full) == names_.end())
    refuse("asks for code that does not belong into a file of weights", full);
  push(Kind::kGlobal).text = full;
}

void PickleReader::append(const std::vector<const PickleValue*>& items, Kind kind) {
  PickleValue& target = top();
  if (!target.is(kind)) refuse("adds to a value that is no container of that kind");
  target.items.insert(target.items.end(), items.begin(), items.end());
}

void PickleReader::call() {
  const PickleValue* arguments = pop();
  const PickleValue* function = pop();
  if (!function->is(Kind::kGlobal) || !arguments->is(Kind::kTuple))
    refuse("calls something that is no function");
  if (function->text == "collections.OrderedDict") {
    if (!arguments->items.empty()) refuse("makes a table of something else than nothing");
    push(Kind::kDict);
    return;
  }
  PickleValue& made = push(Kind::kCall);
  made.text = function->text;
  made.items = arguments->items;
}

}  // namespace espalier

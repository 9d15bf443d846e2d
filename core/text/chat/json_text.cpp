#include <algorithm>
#include <cmath>

#include "espalier/base/utf8.h"
#include "text/chat/limits.h"
#include "text/chat/operations.h"

namespace espalier::text::chat {
namespace {

class JsonWriter {
 public:
  explicit JsonWriter(const JsonOptions& options) : options_(options) {}

  std::string write(const Item& item) {
    value(item, 0);
    return std::move(out_);
  }

 private:
  static constexpr int kDeepest = 300;

  void newline(int depth) {
    if (!options_.indent) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += *options_.indent;
  }

  void value(const Item& item, int depth) {
    if (depth > kDeepest) fail("RecursionError", "maximum recursion depth exceeded");
    Meter::charge();
    if (out_.size() > kMostOutputBytes) Meter::charge_bytes(out_.size());
    switch (item.kind()) {
      case Kind::kNone: out_ += "null"; return;
      case Kind::kBool: out_ += item.as_bool() ? "true" : "false"; return;
      case Kind::kInt: out_ += std::to_string(item.as_int()); return;
      case Kind::kFloat: out_ += number(item.as_double()); return;
      case Kind::kString: text(item.as_string()); return;
      case Kind::kList:
      case Kind::kTuple: list(item.as<Sequence>().items, depth); return;
      case Kind::kDict: dict(item.as<Dict>(), depth); return;
      default: fail("TypeError", "Object of type " + type_name(item) + " is not JSON serializable");
    }
  }

  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return repr_float(value);
  }

  void list(const Items& items, int depth) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += options_.item_separator;
      newline(depth + 1);
      value(items[i], depth + 1);
    }
    newline(depth);
    out_ += ']';
  }

  static std::string key_text(const Item& key) {
    switch (key.kind()) {
      case Kind::kString: return key.as_string();
      case Kind::kNone: return "null";
      case Kind::kBool: return key.as_bool() ? "true" : "false";
      case Kind::kInt: return std::to_string(key.as_int());
      case Kind::kFloat: return number(key.as_double());
      default:
        fail("TypeError", "keys must be str, int, float, bool or None, not " + type_name(key));
    }
  }

  void dict(const Dict& dict, int depth) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Item, Item>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (options_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    out_ += '{';
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += options_.item_separator;
      newline(depth + 1);
      text(key_text(entries[i]->first));
      out_ += options_.key_separator;
      value(entries[i]->second, depth + 1);
    }
    newline(depth);
    out_ += '}';
  }

  void escape(char32_t unit) {
    constexpr const char* kHex = "0123456789abcdef";
    out_ += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4)
      out_ += kHex[unit >> static_cast<unsigned>(shift) & 15U];
  }

  void text(const std::string& value) {
    out_ += '"';
    for (std::size_t at = 0; at < value.size();) {
      const std::size_t begin = at;
      const char32_t point = next_code_point(value, at);
      constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f";
      constexpr std::string_view kLetters = "\"\\nrtbf";
      const std::size_t found =
          point < 0x80 ? kEscaped.find(static_cast<char>(point)) : std::string_view::npos;
      if (found != std::string_view::npos) {
        out_ += '\\';
        out_ += kLetters[found];
      } else if (point < 0x20 ||
                 (options_.ensure_ascii && point >= 0x7F && point < 0x10000 && point != 0x7F)) {
        escape(point);
      } else if (options_.ensure_ascii && point >= 0x10000) {
        escape(0xD800 + ((point - 0x10000) >> 10U));
        escape(0xDC00 + ((point - 0x10000) & 0x3FFU));
      } else {
        out_.append(value, begin, at - begin);
      }
    }
    out_ += '"';
  }

  const JsonOptions& options_;
  std::string out_;
};

}  // namespace

std::string to_json(const Item& item, const JsonOptions& options) {
  return JsonWriter(options).write(item);
}

}  // namespace espalier::text::chat

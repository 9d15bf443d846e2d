// str() and repr() of values, as Python writes them.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "espalier/base/utf8.h"
#include "text/chat/item.h"
#include "text/chat/limits.h"
#include "text/chat/loop.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

constexpr int kDeepestRepr = 200;

std::string repr_at(const Item& item, int depth);

std::string joined(const Items& items, int depth) {
  std::string text;
  for (const Item& item : items) text += (text.empty() ? "" : ", ") + repr_at(item, depth + 1);
  return text;
}

std::string repr_sequence(const Item& item, int depth) {
  const auto& sequence = item.as<Sequence>();
  switch (item.kind()) {
    case Kind::kList: return "[" + joined(sequence.items, depth) + "]";
    case Kind::kTuple:
      return "(" + joined(sequence.items, depth) + (sequence.items.size() == 1 ? ",)" : ")");
    case Kind::kView: return sequence.name + "([" + joined(sequence.items, depth) + "])";
    default: return sequence.name;
  }
}

std::string repr_dict(const Dict& dict, int depth) {
  std::string text;
  for (const auto& [key, value] : dict.entries)
    text += (text.empty() ? "" : ", ") + repr_at(key, depth + 1) + ": " + repr_at(value, depth + 1);
  return "{" + text + "}";
}

std::string repr_at(const Item& item, int depth) {
  if (depth > kDeepestRepr)
    fail("RecursionError", "maximum recursion depth exceeded while getting the repr of an object");
  Meter::charge();
  switch (item.kind()) {
    case Kind::kNone: return "None";
    case Kind::kBool: return item.as_bool() ? "True" : "False";
    case Kind::kInt: return std::to_string(item.as_int());
    case Kind::kFloat: return repr_float(item.as_double());
    case Kind::kString: {
      const std::string text = repr_string(item.as_string());
      return item.is_markup() ? "Markup(" + text + ")" : text;
    }
    case Kind::kUndefined: return "Undefined";
    case Kind::kDict: return repr_dict(item.as<Dict>(), depth);
    case Kind::kNamespace:
      return "<Namespace " + repr_dict(item.as<Namespace>().attributes, depth) + ">";
    case Kind::kMacro: {
      const std::string& name = item.as<Function>().name;
      return "<Macro " + (name.empty() ? "anonymous" : repr_string(name)) + ">";
    }
    case Kind::kFunction: {
      const std::string& name = item.as<Function>().name;
      if (const Item& receiver = item.as<Function>().receiver; !receiver.is_none())
        return "<bound method " + type_name(receiver) + "." + name + " of " +
               repr_at(receiver, depth + 1) + ">";
      if (name == "namespace" || name == "cycler" || name == "joiner")
        return "<class 'jinja2.utils." + capitalize(name) + "'>";
      const bool is_type = name == "dict" || name == "range";
      return is_type ? "<class '" + name + "'>" : "<function " + name + ">";
    }
    case Kind::kLoop: {
      auto& loop = item.as<Loop>();
      return "<LoopContext " + std::to_string(loop.index0 + 1) + "/" +
             std::to_string(loop.count()) + ">";
    }
    case Kind::kGenerator: return "<" + type_name(item) + " object>";
    default: return repr_sequence(item, depth);
  }
}

}  // namespace

void append_escaped(std::string& out, char32_t point) {
  constexpr const char* kHex = "0123456789abcdef";
  const int digits = point <= 0xFF ? 2 : point <= 0xFFFF ? 4 : 8;
  out += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
  for (int i = digits - 1; i >= 0; --i) out += kHex[point >> (4 * static_cast<unsigned>(i)) & 15U];
}

std::string repr(const Item& item) { return repr_at(item, 0); }

std::string to_str(const Item& item) {
  if (item.is_string()) return item.as_string();
  if (item.is_undefined()) return "";
  return repr(item);
}

std::string escaped(const Item& item) {
  if (item.is_markup()) return item.as_string();
  std::string out;
  for (const char c : to_str(item)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string repr_string(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos;
  const char quote = single || text.find('"') != std::string_view::npos ? '\'' : '"';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t point = next_code_point(text, at);
    if (point == static_cast<char32_t>(quote) || point == '\\') {
      out += '\\';
      out += static_cast<char>(point);
    } else if (point == '\n') {
      out += "\\n";
    } else if (point == '\r') {
      out += "\\r";
    } else if (point == '\t') {
      out += "\\t";
    } else if (!is_printable(point)) {
      append_escaped(out, point);
    } else {
      out += text.substr(begin, at - begin);
    }
  }
  return out + quote;
}

std::string repr_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto scientific =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string text(buffer, scientific.ptr);
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) {
    std::string out = text.substr(0, e) + "e" + (exponent < 0 ? "-" : "+");
    const std::string digits = std::to_string(std::abs(exponent));
    return out + (digits.size() < 2 ? "0" : "") + digits;
  }
  char fixed[512];
  const auto end = std::to_chars(fixed, fixed + sizeof(fixed), value, std::chars_format::fixed);
  std::string out(fixed, end.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace espalier::text::chat

#include <cmath>
#include <cstdio>

#include "config/toml.h"
#include "espalier/base/json.h"

namespace espalier::config {
namespace {

bool is_bare_key(std::string_view key) {
  for (const char c : key) {
    const bool bare = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '-';
    if (!bare) return false;
  }
  return !key.empty();
}

std::string quoted(std::string_view text, bool is_value) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04X", static_cast<unsigned>(c));
      out += escape;
    } else if (is_value && text.substr(i).starts_with("${")) {
      out += "$$";  // or it would be taken for a reference to the environment
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string key_text(std::string_view key) {
  return is_bare_key(key) ? std::string(key) : quoted(key, false);
}

std::string number_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  return dump_json(Value(number));
}

/// A value on one line; tables inside lists come out as inline tables.
std::string inline_text(const Value& value) {
  std::string out;
  const auto separate = [&out] {
    if (out.size() > 1) out += ", ";
  };
  switch (value.type()) {
    case Value::Type::kString: return quoted(value.as_string(), true);
    case Value::Type::kFloat: return number_text(value.as_float());
    case Value::Type::kArray:
      out = "[";
      for (const Value& item : value.as_array()) {
        separate();
        out += inline_text(item);
      }
      return out + "]";
    case Value::Type::kTable:
      out = "{";
      for (const auto& [key, item] : value.as_table()) {
        if (item.is_null()) continue;
        separate();
        out += key_text(key) + " = " + inline_text(item);
      }
      return out + "}";
    default: return dump_json(value);
  }
}

void write_table(std::string& out, const Table& table, const std::string& path) {
  for (const auto& [key, value] : table) {
    if (!value.is_table() && !value.is_null())
      out += key_text(key) + " = " + inline_text(value) + "\n";
  }
  for (const auto& [key, value] : table) {
    if (!value.is_table()) continue;
    const std::string full = path.empty() ? key_text(key) : path + "." + key_text(key);
    out += (out.empty() ? "[" : "\n[") + full + "]\n";
    write_table(out, value.as_table(), full);
  }
}

}  // namespace

std::string dump_toml(const Value& value) {
  std::string out;
  write_table(out, value.as_table(), "");
  return out;
}

}  // namespace espalier::config

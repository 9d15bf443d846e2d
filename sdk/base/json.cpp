#include "espalier/base/json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier {
namespace {

constexpr std::size_t kMaximumDepth = 512;
// Starts the text that stands for a number that JSON has no word for; no file has it in a string.
constexpr std::string_view kNonfiniteMark = "\x7f\x7fnonfinite ";

/// Builds a Value from nlohmann's event stream; unlike its document type it sees repeated keys and
/// keeps their order.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(const JsonReadOptions& options) : options_(options) {}

  bool null() override { return put(Value()); }
  bool boolean(bool value) override { return put(Value(value)); }
  bool number_integer(number_integer_t value) override {
    return put(Value(static_cast<std::int64_t>(value)));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(INT64_MAX))
      return put(Value(static_cast<double>(value)));
    return put(Value(static_cast<std::int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t&) override { return put(Value(value)); }
  bool string(string_t& value) override {
    if (options_.allow_nonfinite && value.starts_with(kNonfiniteMark))
      return put(Value(std::strtod(value.c_str() + kNonfiniteMark.size(), nullptr)));
    return put(Value(std::move(value)));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Value(Table())); }
  bool key(string_t& name) override {
    if (!options_.allow_duplicate_keys && stack_.back()->as_table().contains(name)) {
      failure_ = "the key \"" + name + "\" appears twice";
      return false;
    }
    keys_.back() = std::move(name);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Value(Array())); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    position_ = position;
    failure_ = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..." -> the
    // part that says what.
    if (const std::size_t colon = failure_->find(": "); colon != std::string::npos)
      failure_->erase(0, colon + 2);
    return false;
  }

  Value take() { return std::move(root_); }
  const std::optional<std::string>& failure() const { return failure_; }
  std::optional<std::size_t> position() const { return position_; }

 private:
  Value& place(Value value) {
    value.at({options_.file, 0, 0});
    if (stack_.empty()) return root_ = std::move(value);
    Value& parent = *stack_.back();
    if (parent.is_array()) return parent.as_array().emplace_back(std::move(value));
    Value& slot = parent.as_table()[keys_.back()];
    slot = std::move(value);
    return slot;
  }
  bool put(Value value) {
    place(std::move(value));
    return true;
  }
  bool open(Value container) {
    if (stack_.size() >= kMaximumDepth) {
      failure_ = "nested deeper than " + std::to_string(kMaximumDepth) + " levels";
      return false;
    }
    // The parent does not grow while its child is open, so the pointer stays valid.
    stack_.push_back(&place(std::move(container)));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  const JsonReadOptions& options_;
  Value root_;
  std::vector<Value*> stack_;
  std::vector<std::string> keys_;
  std::optional<std::string> failure_;
  std::optional<std::size_t> position_;
};

/// The text with Infinity, -Infinity and NaN outside of strings as marked strings.
std::string with_marked_nonfinite(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view rest = text.substr(i);
    std::string_view word;
    for (const std::string_view candidate : {"-Infinity", "Infinity", "NaN"}) {
      if (!in_string && word.empty() && rest.starts_with(candidate)) word = candidate;
    }
    if (!word.empty()) {
      out.append("\"").append(kNonfiniteMark).append(word).append("\"");
      i += word.size();
      continue;
    }
    if (in_string && text[i] == '\\' && i + 1 < text.size())
      out += text[i++];
    else if (text[i] == '"')
      in_string = !in_string;
    out += text[i++];
  }
  return out;
}

SourcePosition position_of(std::string_view text, std::size_t offset, const std::string& file) {
  SourcePosition position{file, 1, 1};
  for (std::size_t i = 0; i + 1 < offset && i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++position.line;
      position.column = 1;
    } else {
      ++position.column;
    }
  }
  return position;
}

void write_string(std::string& out, const std::string& text) {
  out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write_float(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "Infinity" : "-Infinity";
  } else {
    char buffer[32];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
    const std::string_view digits(buffer, static_cast<std::size_t>(end - buffer));
    out += digits;
    if (digits.find_first_of(".e") == std::string_view::npos) out += ".0";
  }
}

void new_line(std::string& out, int indent, int depth) {
  if (indent < 0) return;
  out += '\n';
  out.append(static_cast<std::size_t>(indent) * static_cast<std::size_t>(depth), ' ');
}

void write_value(std::string& out, const Value& value, int indent, int depth);

template <class Container, class WriteItem>
void write_container(std::string& out, const Container& items, char open, char close, int indent,
                     int depth, const WriteItem& write_item) {
  out += open;
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += indent < 0 ? ", " : ",";
    first = false;
    new_line(out, indent, depth + 1);
    write_item(item);
  }
  if (!first) new_line(out, indent, depth);
  out += close;
}

void write_value(std::string& out, const Value& value, int indent, int depth) {
  switch (value.type()) {
    case Value::Type::kNull: out += "null"; break;
    case Value::Type::kBool: out += value.as_bool() ? "true" : "false"; break;
    case Value::Type::kInt: out += std::to_string(value.as_int()); break;
    case Value::Type::kFloat: write_float(out, value.as_float()); break;
    case Value::Type::kString: write_string(out, value.as_string()); break;
    case Value::Type::kArray:
      write_container(out, value.as_array(), '[', ']', indent, depth,
                      [&](const Value& item) { write_value(out, item, indent, depth + 1); });
      break;
    case Value::Type::kTable:
      write_container(out, value.as_table(), '{', '}', indent, depth,
                      [&](const Table::Entry& entry) {
                        write_string(out, entry.first);
                        out += ": ";
                        write_value(out, entry.second, indent, depth + 1);
                      });
      break;
  }
}

}  // namespace

Value parse_json(std::string_view text, const JsonReadOptions& options) {
  ValueBuilder builder(options);
  std::string marked;
  if (options.allow_nonfinite) text = marked = with_marked_nonfinite(text);
  const bool complete = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (complete) return builder.take();
  const SourcePosition position = builder.position()
                                      ? position_of(text, *builder.position(), options.file)
                                      : SourcePosition{options.file, 0, 0};
  throw_bad_input("this is not valid JSON: " + builder.failure().value_or("unreadable"), {}, {},
                  position.to_string());
}

Value read_json_file(const std::string& path, JsonReadOptions options) {
  if (options.file.empty()) options.file = path;
  return parse_json(read_file(path), options);
}

std::string dump_json(const Value& value, int indent) {
  std::string out;
  write_value(out, value, indent, 0);
  return out;
}

}  // namespace espalier

#include "espalier/data/json_records.h"

#include <simdjson.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr const char* kHint =
    "each line of a JSON Lines file is one object; other files are one array of objects";

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// One a thread: a parser keeps its memory from one record to the next.
simdjson::dom::parser& parser() {
  thread_local simdjson::dom::parser instance;
  return instance;
}

/// False when the object holds a key twice; `out` is then of no use.
bool to_value(const simdjson::dom::element& element, Value& out) {
  switch (element.type()) {
    case simdjson::dom::element_type::ARRAY: {
      Array items;
      for (const simdjson::dom::element item : simdjson::dom::array(element)) {
        if (!to_value(item, items.emplace_back())) return false;
      }
      out = Value(std::move(items));
      return true;
    }
    case simdjson::dom::element_type::OBJECT: {
      Table table;
      for (const auto& [key, item] : simdjson::dom::object(element)) {
        if (table.contains(key) || !to_value(item, table[key])) return false;
      }
      out = Value(std::move(table));
      return true;
    }
    case simdjson::dom::element_type::INT64: out = Value(std::int64_t(element)); return true;
    case simdjson::dom::element_type::UINT64:
    case simdjson::dom::element_type::DOUBLE: out = Value(double(element)); return true;
    case simdjson::dom::element_type::STRING: out = Value(std::string_view(element)); return true;
    case simdjson::dom::element_type::BOOL: out = Value(bool(element)); return true;
    case simdjson::dom::element_type::NULL_VALUE: out = Value(); return true;
  }
  return false;
}

constexpr std::size_t kOpenEnd = std::string_view::npos;

/// The length of the value that `text` begins with: a container, a string or a word; kOpenEnd for a
/// container or string that does not end in `text`. Looks at brackets and quotes alone.
std::size_t value_length(std::string_view text) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
        if (depth == 0) return i + 1;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return i;  // ends the container around a word
      if (--depth == 0) return i + 1;
    } else if (depth == 0 && (c == ',' || c == ':' || kSpace.find(c) != std::string_view::npos)) {
      return i;
    }
  }
  return depth == 0 && !in_string ? text.size() : kOpenEnd;
}

/// Takes the value at the front of `rest`, and the separators before it.
std::string_view take_value(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n,:"), rest.size()));
  const std::string_view value = rest.substr(0, value_length(rest));
  rest.remove_prefix(value.size());
  return value;
}

class JsonRecords final : public RecordSource {
 public:
  explicit JsonRecords(JsonFile file) : file_(std::move(file)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(file_.records().size()); }
  Value record(std::int64_t index) const override {
    const JsonFile::Record& record = at(index);
    Value value = file_.parse(record.text, record.line);
    if (!value.is_table()) {
      throw_bad_input("a record is not an object", std::string(type_phrase(value.type())),
                      "an object: {\"name\": value, ...}", where(index), kHint);
    }
    return value;
  }
  std::string where(std::int64_t index) const override {
    return file_.path() + ":" + std::to_string(at(index).line);
  }

 private:
  const JsonFile::Record& at(std::int64_t index) const {
    return file_.records()[static_cast<std::size_t>(index)];
  }

  JsonFile file_;
};

}  // namespace

JsonFile::JsonFile(DataFile file) : file_(std::move(file)) {
  const std::string& path = file_.path();
  std::string_view text = file_.text();
  text = trimmed(text);
  if (text.empty()) {
    throw_bad_input("the file is empty", {}, "at least one record", path,
                    "check that it was written and downloaded completely");
  }
  if (text.front() != '{' && text.front() != '[') {
    throw_bad_input("this is neither JSON nor JSON Lines",
                    "a file that does not begin with '{' or '['", "objects", path + ":1",
                    "CSV files have to be named .csv or .tsv");
  }
  const std::string_view first_line = text.substr(0, text.find('\n'));
  if (text.front() == '{' && value_length(first_line) != kOpenEnd) {
    find_lines(text);
    return;
  }
  const std::size_t line = line_of(text);
  if (parser().parse(text.data(), text.size()).error() != simdjson::SUCCESS) parse(text, line);
  if (text.front() == '{') {
    records_ = {{text, line}};
  } else {
    find_items(text);
  }
  if (records_.empty()) {
    throw_bad_input("the file has no records", "an empty array", "at least one object", path);
  }
}

void JsonFile::find_lines(std::string_view text) {
  std::size_t line = line_of(text);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view record = trimmed(text.substr(0, end));
    if (!record.empty()) records_.push_back({record, line});
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line;
  }
}

void JsonFile::find_items(std::string_view array) {
  std::size_t line = line_of(array);
  const char* counted = array.data();
  for (const std::string_view item : json_items(array)) {
    line += static_cast<std::size_t>(std::count(counted, item.data(), '\n'));
    counted = item.data();
    records_.push_back({item, line});
  }
}

Value JsonFile::parse(std::string_view text, std::size_t line) const {
  return parse_record(text, path(), line);
}

Value parse_record(std::string_view text, const std::string& path, std::size_t line) {
  simdjson::dom::element element;
  Value value;
  if (parser().parse(text.data(), text.size()).get(element) == simdjson::SUCCESS &&
      to_value(element, value)) {
    return value;
  }
  // The slow parser says what is wrong and where; line breaks in front make its count right.
  try {
    return parse_json(std::string(line - 1, '\n') + std::string(text), {.file = path});
  } catch (const Error& error) {
    Problem problem = error.problems().front();
    if (problem.where == path) problem.where += ":" + std::to_string(line);
    problem.hint = kHint;
    throw Error(std::move(problem));
  }
}

std::shared_ptr<const RecordSource> json_records(JsonFile file) {
  return std::make_shared<JsonRecords>(std::move(file));
}

std::vector<std::string_view> json_items(std::string_view array) {
  std::vector<std::string_view> items;
  std::string_view rest = array.substr(1);
  while (true) {
    const std::string_view item = take_value(rest);
    if (item.empty()) return items;
    items.push_back(item);
  }
}

std::vector<std::pair<std::string_view, std::string_view>> json_members(std::string_view object) {
  std::vector<std::pair<std::string_view, std::string_view>> members;
  std::string_view rest = object.substr(1);
  while (true) {
    const std::string_view key = take_value(rest);
    if (key.empty()) return members;
    members.emplace_back(key.substr(1, key.size() - 2), take_value(rest));
  }
}

}  // namespace espalier

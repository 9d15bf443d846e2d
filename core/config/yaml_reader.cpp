#include "config/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <regex>
#include <sstream>

#include "espalier/base/error.h"

namespace espalier::config {
namespace {

/// Size of a document with its aliases written out, its text and what each node costs at least;
/// more is an attack.
constexpr std::size_t kMostBytes = 16 << 20;
constexpr std::size_t kBytesOfNode = 64;
constexpr int kDeepest = 100;

std::string without_underscores(std::string_view text) {
  std::string digits(text);
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  return digits;
}

std::optional<Value> number(const std::string& text) {
  static const std::regex kInteger(R"([-+]?(0|[1-9][0-9_]*))");
  static const std::regex kHexadecimal(R"([-+]?0x[0-9a-fA-F_]+)");
  static const std::regex kReal(
      R"([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?)");
  constexpr std::size_t kLongest = 64;
  if (text.empty() || text.size() > kLongest) return std::nullopt;
  std::string digits = without_underscores(text);
  const bool negative = digits.front() == '-';
  const bool hex = std::regex_match(text, kHexadecimal);
  if (hex || std::regex_match(text, kInteger)) {
    const std::size_t begin =
        static_cast<std::size_t>(digits.front() == '-' || digits.front() == '+') + (hex ? 2 : 0);
    std::int64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data() + begin, digits.data() + digits.size(), value, hex ? 16 : 10);
    if (error == std::errc() && end == digits.data() + digits.size())
      return Value(negative ? -value : value);
    return std::nullopt;
  }
  if (!std::regex_match(text, kReal)) return std::nullopt;
  if (digits.front() == '+') digits.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return Value(value);
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

/// A plain scalar by the rules of YAML 1.1.
Value plain_scalar(const std::string& text) {
  if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) return {};
  if (is_one_of(text, {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})) return true;
  if (is_one_of(text, {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}))
    return false;
  if (is_one_of(text, {".inf", ".Inf", ".INF", "+.inf"}))
    return std::numeric_limits<double>::infinity();
  if (is_one_of(text, {"-.inf", "-.Inf", "-.INF"})) return -std::numeric_limits<double>::infinity();
  if (is_one_of(text, {".nan", ".NaN", ".NAN"})) return std::nan("");
  if (auto value = number(text)) return *value;
  return text;
}

class TreeReader {
 public:
  explicit TreeReader(const std::string& file) : file_(file) {}

  Value read(const YAML::Node& node, int depth = 0) {
    take(node, kBytesOfNode);
    if (depth > kDeepest) refuse(node, "the document is too deep", "at most 100 levels");
    Value value = content(node, depth);
    value.at(position(node));
    return value;
  }

 private:
  void take(const YAML::Node& node, std::size_t bytes) {
    bytes_ += bytes;
    if (bytes_ > kMostBytes) {
      refuse(node, "the document is too large with its aliases written out",
             "at most 16 MB; aliases that multiply it?");
    }
  }

  Value content(const YAML::Node& node, int depth) {
    switch (node.Type()) {
      case YAML::NodeType::Scalar: return scalar(node);
      case YAML::NodeType::Sequence: {
        Array items;
        for (const YAML::Node& item : node) items.push_back(read(item, depth + 1));
        return items;
      }
      case YAML::NodeType::Map: return table(node, depth);
      case YAML::NodeType::Null:
      case YAML::NodeType::Undefined: break;
    }
    return {};
  }

  /// yaml-cpp tags quoted scalars "!" and plain ones "?".
  Value scalar(const YAML::Node& node) {
    take(node, node.Scalar().size());
    const std::string& tag = node.Tag();
    if (tag == "?" || tag.empty()) return plain_scalar(node.Scalar());
    if (tag == "!" || tag == "tag:yaml.org,2002:str") return node.Scalar();
    if (tag == "tag:yaml.org,2002:int" || tag == "tag:yaml.org,2002:float")
      return plain_scalar(node.Scalar());
    refuse(node, "the tag " + tag + " is not plain data", "values without tags");
  }

  Value table(const YAML::Node& node, int depth) {
    Table own;
    std::vector<Value> merged;
    for (const auto& member : node) {
      if (!member.first.IsScalar()) refuse(member.first, "a key is not text", "plain keys");
      const std::string& key = member.first.Scalar();
      take(member.first, key.size());
      Value value = read(member.second, depth + 1);
      if (key == "<<" && (value.is_table() || value.is_array())) {
        if (value.is_table())
          merged.push_back(std::move(value));
        else
          merged.insert(merged.end(), value.as_array().begin(), value.as_array().end());
        continue;
      }
      if (own.contains(key))
        refuse(member.first, "the key '" + key + "' stands twice", "one of them");
      value.at(position(member.first));
      own.set(key, std::move(value));
    }
    for (const Value& other : merged) {
      if (!other.is_table())
        refuse(node, "'<<' merges what is no table", "a table, or a list of them");
      for (const auto& [key, value] : other.as_table())
        if (!own.contains(key)) own.set(key, value);
    }
    return own;
  }

  SourcePosition position(const YAML::Node& node) const {
    const YAML::Mark mark = node.Mark();
    if (mark.is_null()) return {file_, 0, 0};
    return {file_, static_cast<std::uint32_t>(mark.line + 1),
            static_cast<std::uint32_t>(mark.column + 1)};
  }

  [[noreturn]] void refuse(const YAML::Node& node, const std::string& what,
                           const std::string& expected) const {
    throw_bad_input(what, {}, expected, position(node).to_string());
  }

  const std::string& file_;
  std::size_t bytes_ = 0;
};

/// Where the documents of a text begin.
class DocumentStarts final : public YAML::EventHandler {
 public:
  /// At most two. yaml-cpp finds one document after the other without end where the text begins
  /// with what no document begins with, such as a comma, so YAML::LoadAll is not for texts of
  /// others.
  static std::vector<YAML::Mark> of(const std::string& text) {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentStarts starts;
    while (starts.marks_.size() < 2 && parser.HandleNextDocument(starts)) {
    }
    return starts.marks_;
  }

  void OnDocumentStart(const YAML::Mark& mark) override { marks_.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  std::vector<YAML::Mark> marks_;
};

}  // namespace

Value parse_yaml(std::string_view text, const std::string& file) {
  try {
    const std::string copy(text);
    const std::vector<YAML::Mark> starts = DocumentStarts::of(copy);
    if (starts.empty()) return Value(Table()).at({file, 0, 0});
    if (starts.size() > 1) {
      if (starts[0].pos == starts[1].pos)
        throw YAML::ParserException(starts[0], "nothing begins like this");
      throw_bad_input("the file holds several documents", {}, "one", file);
    }
    return TreeReader(file).read(YAML::Load(copy));
  } catch (const YAML::Exception& error) {
    const SourcePosition position{file, static_cast<std::uint32_t>(error.mark.line + 1),
                                  static_cast<std::uint32_t>(error.mark.column + 1)};
    throw_bad_input("this is not valid YAML: " + error.msg, {}, {}, position.to_string());
  }
}

Value python_literal(const std::string& text) {
  constexpr std::size_t kLongest = 1000;
  if (text.size() > kLongest) return text;
  if (text == "none" || text == "None") return {};
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  if (auto value = number(text)) return *value;
  const bool list = text.size() >= 2 && ((text.front() == '[' && text.back() == ']') ||
                                         (text.front() == '(' && text.back() == ')'));
  if (!list || text.find_first_of("[](){}", 1) != text.size() - 1) return text;
  Array items;
  std::string item;
  for (const char c : text.substr(1, text.size() - 2) + ",") {
    if (c != ',') {
      item += c;
      continue;
    }
    const std::size_t begin = item.find_first_not_of(" \t");
    if (begin != std::string::npos) {
      item = item.substr(begin, item.find_last_not_of(" \t") + 1 - begin);
      const bool quoted = item.size() >= 2 && (item.front() == '\'' || item.front() == '"') &&
                          item.front() == item.back();
      items.push_back(quoted ? Value(item.substr(1, item.size() - 2)) : python_literal(item));
    }
    item.clear();
  }
  return items;
}

}  // namespace espalier::config

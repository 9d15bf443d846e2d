#include "text/json_node.h"

namespace espalier::text {
namespace {

std::string shortened(const simdjson::dom::element& element) {
  std::string text = simdjson::to_string(element);
  constexpr std::size_t kMost = 60;
  if (text.size() > kMost) {
    std::size_t cut = kMost;
    while ((static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;
    text = text.substr(0, cut) + "...";
  }
  return text;
}

std::string joined(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

}  // namespace

void JsonNode::fail(std::string what, std::string found, std::string expected) const {
  throw_bad_input(std::move(what), std::move(found), std::move(expected), where());
}

void JsonNode::wrong_type(std::string_view expected) const {
  fail("a value has the wrong type", shortened(element_), std::string(expected));
}

JsonNode JsonNode::at(std::string_view key) const {
  if (!element_.is_object()) wrong_type("an object");
  simdjson::dom::element member;
  if (element_.at_key(key).get(member) != simdjson::SUCCESS)
    throw_bad_input("a key is missing", {}, std::string(key), where());
  return {member, *file_, joined(path_, key)};
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!element_.is_object()) wrong_type("an object");
  simdjson::dom::element member;
  if (element_.at_key(key).get(member) != simdjson::SUCCESS || member.is_null())
    return std::nullopt;
  return JsonNode(member, *file_, joined(path_, key));
}

std::vector<JsonNode> JsonNode::items() const {
  simdjson::dom::array array;
  if (element_.get(array) != simdjson::SUCCESS) wrong_type("a list");
  std::vector<JsonNode> nodes;
  for (const simdjson::dom::element item : array)
    nodes.emplace_back(item, *file_, path_ + "[" + std::to_string(nodes.size()) + "]");
  return nodes;
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::members() const {
  simdjson::dom::object object;
  if (element_.get(object) != simdjson::SUCCESS) wrong_type("an object");
  std::vector<std::pair<std::string, JsonNode>> nodes;
  for (const auto [key, value] : object)
    nodes.emplace_back(std::string(key), JsonNode(value, *file_, joined(path_, key)));
  return nodes;
}

std::string JsonNode::as_string() const {
  std::string_view text;
  if (element_.get(text) != simdjson::SUCCESS) wrong_type("a string");
  return std::string(text);
}

bool JsonNode::as_bool() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) wrong_type("true or false");
  return value;
}

double JsonNode::as_number() const {
  double value = 0;
  if (element_.get(value) != simdjson::SUCCESS) wrong_type("a number");
  return value;
}

std::int64_t JsonNode::as_int() const {
  std::int64_t value = 0;
  if (element_.get(value) != simdjson::SUCCESS) wrong_type("an integer");
  return value;
}

std::int64_t JsonNode::as_int(std::int64_t least, std::int64_t most) const {
  const std::int64_t value = as_int();
  if (value < least || value > most)
    fail("a number is out of range", std::to_string(value),
         std::to_string(least) + " to " + std::to_string(most));
  return value;
}

std::string JsonNode::string_or(std::string_view key, std::string fallback) const {
  const auto node = find(key);
  return node ? node->as_string() : std::move(fallback);
}

bool JsonNode::bool_or(std::string_view key, bool fallback) const {
  const auto node = find(key);
  return node ? node->as_bool() : fallback;
}

}  // namespace espalier::text

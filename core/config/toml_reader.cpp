#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

#include "config/toml.h"
#include "espalier/base/error.h"

namespace espalier::config {
namespace {

/// Copies toml++'s tree, which sorts keys by name, into one that keeps the order of the file.
class TreeCopier {
 public:
  explicit TreeCopier(const std::string& file) : file_(file) {}

  Value copy(const toml::node& node) const {
    Value value = content(node);
    value.at(position(node.source()));
    return value;
  }

 private:
  Value content(const toml::node& node) const {
    switch (node.type()) {
      case toml::node_type::table: return copy_table(*node.as_table());
      case toml::node_type::array: return copy_array(*node.as_array());
      case toml::node_type::string: return node.as_string()->get();
      case toml::node_type::integer: return static_cast<std::int64_t>(node.as_integer()->get());
      case toml::node_type::floating_point: return node.as_floating_point()->get();
      case toml::node_type::boolean: return node.as_boolean()->get();
      case toml::node_type::date: return text_of(node.as_date()->get());
      case toml::node_type::time: return text_of(node.as_time()->get());
      case toml::node_type::date_time: return text_of(node.as_date_time()->get());
      case toml::node_type::none: break;
    }
    return {};
  }

  Value copy_table(const toml::table& table) const {
    std::vector<std::pair<const toml::key*, const toml::node*>> members;
    for (auto&& [key, node] : table) members.emplace_back(&key, &node);
    std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
      const toml::source_position left = a.first->source().begin;
      const toml::source_position right = b.first->source().begin;
      return left < right;
    });
    Table copied;
    for (const auto& [key, node] : members) {
      Value value = content(*node);
      value.at(position(key->source()));
      copied.set(key->str(), std::move(value));
    }
    return copied;
  }

  Value copy_array(const toml::array& array) const {
    Array copied;
    for (const toml::node& item : array) copied.push_back(copy(item));
    return copied;
  }

  template <class Moment>
  static Value text_of(const Moment& moment) {
    std::ostringstream text;
    text << moment;
    return text.str();
  }

  SourcePosition position(const toml::source_region& region) const {
    return {file_, region.begin.line, region.begin.column};
  }

  const std::string& file_;
};

}  // namespace

Value parse_toml(std::string_view text, const std::string& file) {
  try {
    return TreeCopier(file).copy(toml::parse(text, file));
  } catch (const toml::parse_error& error) {
    const SourcePosition position{file, error.source().begin.line, error.source().begin.column};
    throw_bad_input("this is not valid TOML: " + std::string(error.description()), {}, {},
                    position.to_string(),
                    "text values need quotes: key = \"value\"; lists look like [1, 2]");
  }
}

}  // namespace espalier::config

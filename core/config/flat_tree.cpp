#include "config/flat_tree.h"

namespace espalier::config {
namespace {

void flatten(const Value& value, const std::string& path, std::map<std::string, Value>& flat) {
  if (!value.is_table()) {
    flat[path] = value;
    return;
  }
  for (const auto& [key, item] : value.as_table())
    flatten(item, path.empty() ? key : path + "." + key, flat);
}

}  // namespace

std::map<std::string, Value> flat_tree(const Value& tree) {
  std::map<std::string, Value> flat;
  flatten(tree, {}, flat);
  return flat;
}

}  // namespace espalier::config

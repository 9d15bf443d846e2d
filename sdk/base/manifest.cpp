#include "espalier/base/manifest.h"

#include <cctype>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr std::int64_t kManifestVersion = 1;

Array strings_to_array(const std::vector<std::string>& strings) {
  Array array;
  for (const std::string& text : strings) array.emplace_back(text);
  return array;
}

[[noreturn]] void refuse(const std::string& field, std::string found, std::string expected,
                         const std::string& where) {
  throw Error({ErrorCode::kBadPlugin, "the plugin's manifest has a malformed field '" + field + "'",
               std::move(found), std::move(expected), where,
               "rebuild the plugin with espalier_add_plugin(), which writes the manifest"});
}

/// Reads members of one JSON object; every mistake names the member.
class MemberReader {
 public:
  MemberReader(const Value& object, std::string path, const std::string& where)
      : object_(object), path_(std::move(path)), where_(where) {
    if (!object.is_table())
      refuse(path_.empty() ? "(root)" : path_, std::string(type_phrase(object.type())), "a table",
             where_);
  }

  std::string text(std::string_view key, bool required = true) const {
    const Value* value = member(key, Value::Type::kString, required);
    return value == nullptr ? std::string() : value->as_string();
  }
  std::int64_t integer(std::string_view key) const {
    return member(key, Value::Type::kInt, true)->as_int();
  }
  Table table(std::string_view key) const {
    const Value* value = member(key, Value::Type::kTable, false);
    return value == nullptr ? Table() : value->as_table();
  }
  Array array(std::string_view key) const {
    const Value* value = member(key, Value::Type::kArray, false);
    return value == nullptr ? Array() : value->as_array();
  }
  std::vector<std::string> texts(std::string_view key) const {
    std::vector<std::string> result;
    for (const Value& item : array(key)) {
      if (!item.is_string()) refuse(full(key), dump_json(item), "a list of strings", where_);
      result.push_back(item.as_string());
    }
    return result;
  }
  const Value* member(std::string_view key, Value::Type type, bool required) const {
    const Value* value = object_.find(key);
    if (value == nullptr && !required) return nullptr;
    if (value == nullptr) refuse(full(key), "nothing", std::string(type_phrase(type)), where_);
    if (value->type() != type)
      refuse(full(key), dump_json(*value), std::string(type_phrase(type)), where_);
    return value;
  }
  std::string full(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }
  const std::string& where() const { return where_; }

 private:
  const Value& object_;
  std::string path_;
  const std::string& where_;
};

/// "vendor.name": at least two parts of letters, digits, '_' and '-'.
bool is_plugin_id(std::string_view id) {
  std::size_t parts = 1;
  char last = '.';
  for (const char c : id) {
    if (c == '.') {
      if (last == '.') return false;
      ++parts;
    } else if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '-') {
      return false;
    }
    last = c;
  }
  return parts >= 2 && last != '.';
}

bool is_version(std::string_view version) {
  std::size_t dots = 0;
  char last = '.';
  for (const char c : version) {
    if (c == '.' ? last == '.' : std::isdigit(static_cast<unsigned char>(c)) == 0) return false;
    dots += c == '.' ? 1 : 0;
    last = c;
  }
  return dots == 2 && last != '.' && version.size() <= 32;
}

ComponentDescriptor component_from_value(const Value& value, const std::string& path,
                                         const std::string& where) {
  const MemberReader reader(value, path, where);
  ComponentDescriptor component;
  component.interface = reader.text("interface");
  const std::int64_t version = reader.integer("interface_version");
  if (version < 0 || version > UINT32_MAX)
    refuse(reader.full("interface_version"), std::to_string(version), "a small number", where);
  component.interface_version = static_cast<std::uint32_t>(version);
  component.name = reader.text("name");
  if (component.name.empty()) refuse(reader.full("name"), "\"\"", "a name", where);
  component.doc = reader.text("doc", false);
  component.serves = reader.table("serves");
  component.aliases = reader.table("aliases");
  component.properties = reader.table("properties");
  try {
    component.schema = schema_from_value(reader.array("schema"));
  } catch (const Error& error) {
    const Problem& problem = error.problems().front();
    refuse(reader.full("schema"),
           problem.what + (problem.found.empty() ? "" : ": ") + problem.found, problem.expected,
           where);
  }
  return component;
}

}  // namespace

const ComponentDescriptor* PluginManifest::find(std::string_view interface,
                                                std::string_view name) const {
  for (const ComponentDescriptor& component : components) {
    if (component.interface == interface && component.name == name) return &component;
  }
  return nullptr;
}

Value component_to_value(const ComponentDescriptor& component) {
  Table table;
  table.set("interface", component.interface);
  table.set("interface_version", static_cast<std::int64_t>(component.interface_version));
  table.set("name", component.name);
  table.set("doc", component.doc);
  table.set("schema", schema_to_value(component.schema));
  table.set("serves", component.serves);
  table.set("aliases", component.aliases);
  table.set("properties", component.properties);
  return table;
}

Value manifest_to_value(const PluginManifest& manifest) {
  Table abi;
  abi.set("tier", manifest.tier);
  abi.set("major", manifest.abi_major);
  abi.set("minor", manifest.abi_minor);
  Array components;
  for (const ComponentDescriptor& component : manifest.components)
    components.push_back(component_to_value(component));
  Table table;
  table.set("manifest_version", kManifestVersion);
  table.set("id", manifest.id);
  table.set("version", manifest.version);
  table.set("abi", std::move(abi));
  table.set("fingerprint", manifest.fingerprint);
  table.set("license", manifest.license);
  table.set("requires", strings_to_array(manifest.requirements));
  table.set("conflicts", strings_to_array(manifest.conflicts));
  table.set("components", std::move(components));
  return table;
}

PluginManifest manifest_header_from_value(const Value& value, const std::string& where) {
  const MemberReader reader(value, "", where);
  PluginManifest manifest;
  manifest.id = reader.text("id");
  if (!is_plugin_id(manifest.id))
    refuse("id", manifest.id, "vendor.name, of letters, digits, '_' and '-'", where);
  manifest.version = reader.text("version");
  if (!is_version(manifest.version))
    refuse("version", manifest.version, "three numbers, as in 1.0.2", where);
  const MemberReader abi(*reader.member("abi", Value::Type::kTable, true), "abi", where);
  manifest.tier = abi.text("tier");
  manifest.abi_major = abi.integer("major");
  manifest.abi_minor = abi.integer("minor");
  manifest.fingerprint = reader.text("fingerprint");
  return manifest;
}

PluginManifest manifest_from_value(const Value& value, const std::string& where) {
  PluginManifest manifest = manifest_header_from_value(value, where);
  const MemberReader reader(value, "", where);
  manifest.license = reader.text("license", false);
  manifest.requirements = reader.texts("requires");
  manifest.conflicts = reader.texts("conflicts");
  std::set<std::string> names;
  const Array components = reader.array("components");
  for (std::size_t i = 0; i < components.size(); ++i) {
    const std::string path = "components[" + std::to_string(i) + "]";
    ComponentDescriptor component = component_from_value(components[i], path, where);
    if (!names.insert(component.interface + "/" + component.name).second)
      refuse(path + ".name", component.name + ", a second time",
             "one " + component.interface + " of each name", where);
    manifest.components.push_back(std::move(component));
  }
  return manifest;
}

}  // namespace espalier

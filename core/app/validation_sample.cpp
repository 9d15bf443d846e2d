#include "app/validation_sample.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEveryComponent = "*";

std::string beside(const std::string& plugin) {
  constexpr std::string_view kLibrary = ".espalier.so";
  std::string path = plugin;
  if (path.ends_with(kLibrary)) path.resize(path.size() - kLibrary.size());
  return path + ".conformance.json";
}

/// The bytes of a file of an entry: a text as it is, {"hex": "..."} for bytes, other JSON as JSON.
std::string content_of(const Value& content) {
  if (content.is_string()) return content.as_string();
  const Value* hex = content.find("hex");
  if (hex == nullptr || !hex->is_string()) return dump_json(content);
  const std::string& digits = hex->as_string();
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

/// "{folder}" in every text of a value.
Value replaced(const Value& value, const std::string& folder) {
  constexpr std::string_view kMark = "{folder}";
  if (value.is_string()) {
    std::string text = value.as_string();
    for (std::size_t at = 0; (at = text.find(kMark, at)) != std::string::npos; at += folder.size())
      text.replace(at, kMark.size(), folder);
    return text;
  }
  if (value.is_array()) {
    Array items;
    for (const Value& item : value.as_array()) items.push_back(replaced(item, folder));
    return items;
  }
  if (value.is_table()) {
    Table table;
    for (const auto& [key, item] : value.as_table()) table.set(key, replaced(item, folder));
    return table;
  }
  return value;
}

}  // namespace

ValidationSamples::ValidationSamples(const std::string& path, const plugin::Plugin& plugin) {
  const std::string file = path.empty() ? beside(plugin.path) : path;
  if (path.empty() && !fs::exists(file)) return;
  const Value document = read_json_file(file);
  const Value* components = document.find("components");
  if (components == nullptr || !components->is_table())
    throw_bad_input("the file says nothing of components", {},
                    R"({"components": {NAME: {"config": {...}, "files": {...}}}})", file);
  components_ = *components;
  std::vector<std::string> names;
  for (const ComponentDescriptor& component : plugin.manifest.components)
    names.push_back(component.name);
  for (const auto& [name, entry] : components_.as_table()) {
    if (name != kEveryComponent && std::find(names.begin(), names.end(), name) == names.end())
      throw_bad_input("the plugin has no component '" + name + "'", name,
                      "one of " + join_names(names), file, did_you_mean(name, names));
    if (!entry.is_table())
      throw_bad_input("the entry of component '" + name + "' is no object", dump_json(entry),
                      R"({"config": {...}, "files": {...}})", file);
  }
}

Value ValidationSamples::entry(const std::string& component) const {
  const Value* entry = components_.find(component);
  if (entry == nullptr) entry = components_.find(kEveryComponent);
  return entry == nullptr ? Value(Table()) : *entry;
}

SampleFolder::SampleFolder(const Value& entry) {
  std::string pattern = (fs::temp_directory_path() / "espalier-validate.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw_io("create", pattern, errno);
  path_ = pattern;
  const Value* files = entry.find("files");
  if (files == nullptr) return;
  for (const auto& [name, content] : files->as_table()) {
    if (name.find('/') != std::string::npos)
      throw_bad_input("a file of conformance.json has a folder in its name", name, "a plain name",
                      "conformance.json");
    write_file_atomically(path_ + "/" + name, content_of(content));
  }
}

SampleFolder::~SampleFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Value SampleFolder::config(const Value& entry, const ComponentDescriptor& component) const {
  const Value* given = entry.find("config");
  const Value config = given == nullptr ? Value(Table()) : replaced(*given, path_);
  ProblemList problems;
  check_config(component.schema, config, component.name, problems, {"type"});
  problems.throw_if_any();
  return with_defaults(component.schema, config);
}

}  // namespace espalier::app

#include <cstdio>
#include <map>

#include "app/plugins.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::app {
namespace {

/// A cell of a table: bars and line ends would end it.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

void print_rows(const SchemaSpec& schema, const std::string& prefix) {
  for (const FieldSpec& field : schema.fields) {
    const std::string name = prefix + field.name;
    const bool nested = field.type == FieldType::kTable && field.table;
    std::string value = field.required ? "required" : "";
    if (!field.default_value.is_null() && !nested)
      value = "`" + dump_json(field.default_value) + "`";
    std::string text = field.doc;
    if (!field.deprecated.empty()) text += " (deprecated: use " + field.deprecated + ")";
    std::printf("| `%s` | %s | %s | %s |\n", name.c_str(), cell(expectation(field)).c_str(),
                cell(value).c_str(), cell(text).c_str());
    if (nested) print_rows(*field.table, name + ".");
  }
}

void print_component(const plugin::ComponentRef& ref) {
  const ComponentDescriptor& component = *ref.component;
  std::printf("\n### %s\n\n%s (plugin `%s`)\n", component.name.c_str(), component.doc.c_str(),
              ref.plugin->manifest.id.c_str());
  for (const auto& [kind, names] : component.serves) {
    std::vector<std::string> texts;
    for (const Value& item : names.as_array()) texts.push_back("`" + item.as_string() + "`");
    std::printf("\nServes %s: %s\n", kind.c_str(), join_names(texts).c_str());
  }
  if (component.schema.fields.empty()) {
    std::puts("\nNo settings.");
    return;
  }
  std::puts("\n| setting | value | default | meaning |\n|---|---|---|---|");
  print_rows(component.schema, {});
}

}  // namespace

int print_markdown(const plugin::Catalog& catalog, const std::string& name) {
  std::map<std::string, std::map<std::string, plugin::ComponentRef>> by_interface;
  for (const plugin::ComponentRef& ref : catalog.components()) {
    if (name.empty() || ref.component->name == name || ref.qualified_name() == name ||
        ref.plugin->manifest.id == name)
      by_interface[ref.component->interface][ref.qualified_name()] = ref;
  }
  if (by_interface.empty())
    throw_bad_input("no plugin and no component is named '" + name + "'", {},
                    "a name that espalier plugins list shows", "the command line");
  for (const auto& [interface, components] : by_interface) {
    std::printf("\n## %s\n", interface.c_str());
    for (const auto& [qualified, ref] : components) print_component(ref);
  }
  return 0;
}

}  // namespace espalier::app

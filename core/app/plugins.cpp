#include "app/plugins.h"

#include <cstdio>
#include <map>
#include <set>

#include "app/options.h"
#include "app/plugin_options.h"
#include "app/terminal.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "plugin/lock_file.h"
#include "plugin/version.h"

namespace espalier::app {
namespace {

using plugin::Catalog;
using plugin::ComponentRef;

std::string joined_strings(const Value& value) {
  std::vector<std::string> texts;
  for (const Value& item : value.as_array())
    texts.push_back(item.is_string() ? item.as_string() : dump_json(item));
  return join_names(texts);
}

std::string shown_range(const FieldSpec& field) {
  std::string text = expectation(field);
  if (!field.deprecated.empty()) text += " (deprecated: use " + field.deprecated + ")";
  return text;
}

void add_field_rows(const SchemaSpec& schema, const std::string& prefix,
                    std::vector<std::vector<std::string>>& rows) {
  for (const FieldSpec& field : schema.fields) {
    const std::string name = prefix + field.name;
    const bool nested = field.type == FieldType::kTable && field.table;
    std::string default_text = field.required ? "(required)" : "-";
    if (!field.default_value.is_null() && !nested) default_text = dump_json(field.default_value);
    rows.push_back({name, shown_range(field), nested ? "" : default_text, field.doc});
    if (nested) add_field_rows(*field.table, name + ".", rows);
  }
}

void print_component(const ComponentRef& ref) {
  const ComponentDescriptor& component = *ref.component;
  std::printf("\n%s '%s': %s\n", component.interface.c_str(), component.name.c_str(),
              component.doc.c_str());
  for (const auto& [kind, names] : component.serves)
    std::printf("  serves %s: %s\n", kind.c_str(),
                names.is_array() ? joined_strings(names).c_str() : dump_json(names).c_str());
  for (const auto& [target, keys] : component.aliases) std::printf("  alias  %s\n", target.c_str());
  for (const auto& [property, value] : component.properties)
    std::printf("  %s = %s\n", property.c_str(), dump_json(value).c_str());
  if (component.schema.fields.empty()) {
    std::puts("  no settings");
    return;
  }
  std::vector<std::vector<std::string>> rows;
  add_field_rows(component.schema, "", rows);
  print_columns({"SETTING", "VALUE", "DEFAULT", "MEANING"}, rows, "  ");
}

void print_plugin(const plugin::Plugin& plugin) {
  std::printf("%s %s\n", plugin.manifest.id.c_str(), plugin.manifest.version.c_str());
  std::vector<std::vector<std::string>> rows = {
      {"file", plugin.path},
      {"found by", plugin.origin},
      {"license", plugin.manifest.license.empty() ? "not stated" : plugin.manifest.license},
      {"interface", plugin.manifest.tier + " " + std::to_string(plugin.manifest.abi_major) + "." +
                        std::to_string(plugin.manifest.abi_minor)},
      {"fingerprint", plugin.manifest.fingerprint}};
  for (const std::string& text : plugin.manifest.requirements) rows.push_back({"requires", text});
  for (const std::string& text : plugin.manifest.conflicts) rows.push_back({"conflicts", text});
  print_columns({}, rows, "  ");
}

/// Components called `name`, short or qualified, of whatever interface.
std::vector<ComponentRef> components_named(const Catalog& catalog, const std::string& name) {
  std::vector<ComponentRef> found = catalog.components();
  std::erase_if(found, [&](const ComponentRef& ref) {
    return ref.component->name != name && ref.qualified_name() != name;
  });
  return found;
}

[[noreturn]] void refuse_unknown_name(const Catalog& catalog, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& plugin : catalog.plugins()) names.push_back(plugin->manifest.id);
  for (const ComponentRef& ref : catalog.components()) names.push_back(ref.component->name);
  const std::string hint = did_you_mean(name, names);
  throw_bad_input(
      "no plugin and no component is named '" + name + "'", {},
      "a name that espalier plugins list shows", "the command line",
      hint.empty() ? "espalier plugins doctor shows every file that was looked at" : hint);
}

Value plugin_to_value(const plugin::Plugin& plugin) {
  Value value = manifest_to_value(plugin.manifest);
  value.as_table().set("path", plugin.path);
  value.as_table().set("origin", plugin.origin);
  return value;
}

std::vector<const plugin::Candidate*> refused_as(const Catalog& catalog, const std::string& name) {
  std::vector<const plugin::Candidate*> found;
  for (const plugin::Candidate& candidate : catalog.candidates()) {
    if (candidate.verdict != plugin::Verdict::kRefused) continue;
    bool matches = candidate.id == name || candidate.path == name ||
                   candidate.path.ends_with("/" + name) ||
                   candidate.path.ends_with("/" + name + ".espalier.so");
    if (candidate.plugin) {
      const PluginManifest& manifest = candidate.plugin->manifest;
      for (const ComponentDescriptor& component : manifest.components)
        matches = matches || component.name == name || manifest.id + "/" + component.name == name;
    }
    if (matches) found.push_back(&candidate);
  }
  return found;
}

/// Where components of one interface and name come from.
std::string owner_text(const std::string& interface, const std::string& name,
                       const std::vector<std::string>& plugins) {
  std::string text = interface;
  text.append(" '").append(name).append("' is ");
  if (plugins.size() == 1)
    return text.append("from plugin '").append(plugins[0]).append("', the only one that has it");
  text.append("in several plugins (").append(join_names(plugins));
  text.append("): write the full name, such as '").append(plugins[0]).append("/");
  return text.append(name).append("'");
}

}  // namespace

int list_plugins(const Catalog& catalog, bool json) {
  std::size_t refused = 0;
  for (const plugin::Candidate& candidate : catalog.candidates())
    refused += candidate.verdict == plugin::Verdict::kRefused ? 1 : 0;
  if (json) {
    Array plugins;
    for (const auto& plugin : catalog.plugins()) {
      Array components;
      for (const ComponentDescriptor& component : plugin->manifest.components) {
        Table entry;
        entry.set("interface", component.interface);
        entry.set("name", component.name);
        entry.set("doc", component.doc);
        components.emplace_back(std::move(entry));
      }
      Table entry;
      entry.set("id", plugin->manifest.id);
      entry.set("version", plugin->manifest.version);
      entry.set("path", plugin->path);
      entry.set("origin", plugin->origin);
      entry.set("components", std::move(components));
      plugins.emplace_back(std::move(entry));
    }
    Table document;
    document.set("plugins", std::move(plugins));
    document.set("refused", static_cast<std::int64_t>(refused));
    std::puts(dump_json(Value(std::move(document)), 1).c_str());
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const ComponentRef& ref : catalog.components())
    rows.push_back({ref.component->interface, ref.component->name, ref.plugin->manifest.id,
                    ref.plugin->manifest.version, ref.component->doc});
  if (rows.empty())
    std::puts("No plugins were found. Give a folder with --plugin-path or ESPALIER_PLUGIN_PATH.");
  else
    print_columns({"INTERFACE", "COMPONENT", "PLUGIN", "VERSION", "WHAT IT IS"}, rows);
  if (refused > 0)
    std::printf("\n%zu file%s refused; espalier plugins doctor says why.\n", refused,
                refused == 1 ? " was" : "s were");
  return 0;
}

int inspect_plugin(const Catalog& catalog, const std::string& name, bool json) {
  std::vector<ComponentRef> components = components_named(catalog, name);
  const auto plugin = components.empty() ? catalog.find_plugin(name) : nullptr;
  if (!plugin && components.empty()) {
    const auto refused = refused_as(catalog, name);
    if (!refused.empty()) throw Error(refused.front()->problems);
    refuse_unknown_name(catalog, name);
  }
  if (json && plugin) {
    std::puts(dump_json(plugin_to_value(*plugin), 1).c_str());
  } else if (json) {
    Array array;
    for (const ComponentRef& ref : components) {
      Value value = component_to_value(*ref.component);
      value.as_table().set("plugin", ref.plugin->manifest.id);
      array.push_back(std::move(value));
    }
    std::puts(dump_json(Value(std::move(array)), 1).c_str());
  } else if (plugin) {
    print_plugin(*plugin);
    for (const ComponentDescriptor& component : plugin->manifest.components)
      print_component({plugin, &component});
  } else {
    for (const ComponentRef& ref : components) {
      print_plugin(*ref.plugin);
      print_component(ref);
    }
  }
  return 0;
}

int inspect_all(const Catalog& catalog, bool json) {
  Array array;
  for (const auto& plugin : catalog.plugins()) {
    if (json) {
      array.push_back(plugin_to_value(*plugin));
      continue;
    }
    print_plugin(*plugin);
    for (const ComponentDescriptor& component : plugin->manifest.components)
      print_component({plugin, &component});
    std::puts("");
  }
  if (json) std::puts(dump_json(Value(std::move(array)), 1).c_str());
  return 0;
}

int explain_plugin(const Catalog& catalog, const std::string& name, bool json) {
  std::vector<std::string> reasons;
  std::map<std::string, std::set<std::string>> owners;  // interface -> plugins with the component
  for (const ComponentRef& ref : components_named(catalog, name))
    owners[ref.component->interface].insert(ref.plugin->manifest.id);
  bool usable = false;
  for (const auto& [interface, ids] : owners) {
    const std::vector<std::string> names(ids.begin(), ids.end());
    usable = usable || ids.size() == 1;
    reasons.push_back(owner_text(interface, name, names));
  }
  if (const auto plugin = catalog.find_plugin(name)) {
    usable = true;
    reasons.push_back("plugin '" + name + "' " + plugin->manifest.version + " is " + plugin->path +
                      ", found by " + plugin->origin);
    for (const auto& other : catalog.plugins()) {
      for (const std::string& text : other->manifest.requirements) {
        for (const plugin::Requirement& requirement : plugin::parse_alternatives(text)) {
          if (requirement.id == name)
            reasons.push_back("plugin '" + other->manifest.id + "' requires it: " + text);
        }
      }
    }
  }
  std::vector<Problem> problems;
  for (const plugin::Candidate* candidate : refused_as(catalog, name)) {
    reasons.push_back(candidate->path + " was refused");
    problems.insert(problems.end(), candidate->problems.begin(), candidate->problems.end());
  }
  if (reasons.empty()) refuse_unknown_name(catalog, name);
  if (json) {
    Array reason_array;
    for (const std::string& reason : reasons) reason_array.emplace_back(reason);
    Array problem_array;
    for (const Problem& problem : problems) problem_array.push_back(problem_to_value(problem));
    Table document;
    document.set("name", name);
    document.set("usable", usable);
    document.set("reasons", std::move(reason_array));
    document.set("problems", std::move(problem_array));
    std::puts(dump_json(Value(std::move(document)), 1).c_str());
  } else {
    for (const std::string& reason : reasons) std::puts(reason.c_str());
    for (const Problem& problem : problems) std::puts(problem.to_string().c_str());
  }
  return usable ? 0 : exit_code(ErrorCode::kBadPlugin);
}

int run_plugins(const std::vector<std::string>& arguments) {
  // These have options of their own.
  static const std::map<std::string, int (*)(const std::vector<std::string>&)> kOwnOptions = {
      {"new", new_plugin}, {"validate", validate_plugin}};
  if (!arguments.empty()) {
    if (const auto found = kOwnOptions.find(arguments[0]); found != kOwnOptions.end())
      return found->second({arguments.begin() + 1, arguments.end()});
  }
  std::string action;
  std::string name;
  std::string output = "plugins.lock";
  bool json = false;
  bool markdown = false;
  plugin::CatalogOptions catalog_options;
  Options options(
      "plugins list | inspect [NAME] | why NAME | doctor | lock | validate FILE | new KIND NAME",
      "Shows what plugins offer and why a file is used or refused. Reads manifests only; no "
      "plugin code runs, but by validate. validate and new have options of their own: see their "
      "--help.");
  options.positional(
      "ACTION", action, {"list", "inspect", "why", "doctor", "lock", "validate", "new"},
      "list: what can be used. inspect: a plugin or a component with all its settings; without a "
      "name all of them. why: where a name comes from. doctor: the verdict on every file, and this "
      "machine. lock: writes a lock file. validate: tries a plugin out. new: makes a plugin to "
      "start from");
  options.positional("NAME", name, "a plugin (vendor.name), a component, or vendor.name/component",
                     false);
  options.flag("json", json, "print one JSON document");
  options.flag("markdown", markdown, "inspect: print Markdown");
  options.value("output", output, "lock: the file to write (default plugins.lock)");
  add_plugin_options(options, catalog_options);
  options.parse(arguments);

  const bool named = action == "inspect" || action == "why";
  if (action == "why" && name.empty())
    throw_bad_input("NAME is missing", {}, "espalier plugins why NAME", "the command line",
                    "espalier plugins list shows the names");
  if (!named && !name.empty())
    throw_bad_input("unexpected argument '" + name + "'", {}, "espalier plugins " + action,
                    "the command line");
  const Catalog catalog = Catalog::scan(catalog_options);
  if (action == "list") return list_plugins(catalog, json);
  if (action == "inspect" && markdown) return print_markdown(catalog, name);
  if (action == "inspect" && name.empty()) return inspect_all(catalog, json);
  if (action == "inspect") return inspect_plugin(catalog, name, json);
  if (action == "lock") {
    plugin::write_lock_file(output, catalog.plugins());
    std::printf("%s has %zu plugins; --locked %s accepts no others\n", output.c_str(),
                catalog.plugins().size(), output.c_str());
    return 0;
  }
  if (action == "why") return explain_plugin(catalog, name, json);
  return diagnose_plugins(catalog, json);
}

}  // namespace espalier::app

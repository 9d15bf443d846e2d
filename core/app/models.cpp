#include <algorithm>
#include <cstdio>
#include <set>

#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/terminal.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "plugin/capabilities.h"

namespace espalier::app {
namespace {

using plugin::Catalog;
using plugin::ComponentRef;

std::vector<std::string> served(const ComponentRef& provider, const char* kind) {
  std::vector<std::string> names;
  const Value* list = provider.component->serves.find(kind);
  if (list == nullptr || !list->is_array()) return names;
  for (const Value& name : list->as_array()) {
    if (name.is_string()) names.push_back(name.as_string());
  }
  return names;
}

Value array_of(const std::vector<std::string>& names) {
  Array array;
  for (const std::string& name : names) array.emplace_back(name);
  return array;
}

int list_models(const Catalog& catalog, bool json) {
  const std::vector<ComponentRef> providers = catalog.components("ModelProvider");
  if (json) {
    Array families;
    for (const ComponentRef& provider : providers) {
      Table entry;
      entry.set("family", provider.component->name);
      entry.set("plugin", provider.plugin->manifest.id);
      entry.set("doc", provider.component->doc);
      entry.set("architectures", array_of(served(provider, "architectures")));
      entry.set("model_types", array_of(served(provider, "model_types")));
      entry.set("capabilities", array_of(plugin::capabilities_of(provider)));
      families.emplace_back(std::move(entry));
    }
    Table document;
    document.set("families", std::move(families));
    std::puts(dump_json(Value(std::move(document)), 1).c_str());
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  rows.reserve(providers.size());
  for (const ComponentRef& provider : providers)
    rows.push_back({provider.component->name, join_names(served(provider, "architectures")),
                    provider.plugin->manifest.id, provider.component->doc});
  if (rows.empty())
    std::puts("No plugin with models was found. Give a folder with --plugin-path.");
  else
    print_columns({"FAMILY", "ARCHITECTURES", "PLUGIN", "WHAT IT IS"}, rows);
  return 0;
}

/// One row a family, one column a capability that any family claims.
int list_capabilities(const Catalog& catalog, bool json) {
  const std::vector<ComponentRef> providers = catalog.components("ModelProvider");
  std::vector<std::string> all;
  for (const ComponentRef& provider : providers) {
    for (const std::string& name : plugin::capabilities_of(provider)) {
      if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
    }
  }
  if (json) {
    Table document;
    for (const ComponentRef& provider : providers)
      document.set(provider.qualified_name(), array_of(plugin::capabilities_of(provider)));
    std::puts(dump_json(Value(std::move(document)), 1).c_str());
    return 0;
  }
  std::vector<std::string> header = {"FAMILY"};
  header.insert(header.end(), all.begin(), all.end());
  std::vector<std::vector<std::string>> rows;
  for (const ComponentRef& provider : providers) {
    const std::vector<std::string> own = plugin::capabilities_of(provider);
    const std::set<std::string> claims(own.begin(), own.end());
    std::vector<std::string> row = {provider.component->name};
    for (const std::string& name : all) row.emplace_back(claims.contains(name) ? "yes" : "-");
    rows.push_back(std::move(row));
  }
  print_columns(header, rows);
  return 0;
}

}  // namespace

int run_models(const std::vector<std::string>& arguments) {
  std::string action;
  std::string folder;
  std::string provider;
  bool json = false;
  plugin::CatalogOptions catalog_options;
  Options options("models list | inspect DIR | capabilities [DIR]",
                  "Shows which models there are plugins for, and what is in a model's folder. "
                  "inspect builds the model without memory and reads no weights.");
  options.positional("ACTION", action, {"list", "inspect", "capabilities"},
                     "list: families and the architectures that they serve. inspect: family, "
                     "parameters by part, dtypes, memory, tokenizer, template, and what is and is "
                     "not supported, with the reason. capabilities: what each family can do, or "
                     "the model in a folder");
  options.positional("DIR", folder, "model folder, or a hub id in the local cache", false);
  options.value("provider", provider, "the component that builds it, as vendor.name/component");
  options.flag("json", json, "print one JSON document");
  add_plugin_options(options, catalog_options);
  options.parse(arguments);
  if (action == "inspect" && folder.empty())
    throw_bad_input("DIR is missing", {}, "espalier models inspect DIR", "the command line");
  if (action == "list" && !folder.empty())
    throw_bad_input("unexpected argument '" + folder + "'", {}, "espalier models list",
                    "the command line", "espalier models inspect shows one model");
  const Catalog catalog = Catalog::scan(catalog_options);
  catalog.require_named();
  if (action == "list") return list_models(catalog, json);
  if (folder.empty()) return list_capabilities(catalog, json);
  EngineRequest request;
  request.command = "models inspect";
  Table table;
  table.set("json", json);
  table.set("capabilities-only", action == "capabilities");
  request.options = std::move(table);
  add_model(request, catalog, folder, {.provider = provider});
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app

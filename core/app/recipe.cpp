// espalier recipe: looks at recipes without running them.
#include "config/recipe.h"

#include <cstdio>
#include <map>

#include "app/command.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/recipe_new.h"
#include "config/flat_tree.h"
#include "config/json_schema.h"
#include "config/reference_recipe.h"
#include "config/toml.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier::app {
namespace {

int print_difference(const config::ResolvedRecipe& first, const config::ResolvedRecipe& second,
                     bool json) {
  const std::map<std::string, Value> before = config::flat_tree(first.tree);
  const std::map<std::string, Value> after = config::flat_tree(second.tree);
  Table differences;
  const auto add = [&](const std::string& key, const Value* old_value, const Value* new_value) {
    Table entry;
    if (old_value != nullptr) entry.set("first", *old_value);
    if (new_value != nullptr) entry.set("second", *new_value);
    differences.set(key, std::move(entry));
    if (json) return;
    if (old_value != nullptr)
      std::printf("- %s = %s\n", key.c_str(), dump_json(*old_value).c_str());
    if (new_value != nullptr)
      std::printf("+ %s = %s\n", key.c_str(), dump_json(*new_value).c_str());
  };
  for (const auto& [key, value] : before) {
    const auto other = after.find(key);
    if (other == after.end())
      add(key, &value, nullptr);
    else if (!(other->second == value))
      add(key, &value, &other->second);
  }
  for (const auto& [key, value] : after) {
    if (!before.contains(key)) add(key, nullptr, &value);
  }
  if (json) std::puts(dump_json(Value(std::move(differences)), 1).c_str());
  return 0;
}

/// A recipe of Automodel, or one in YAML, as a TOML file without defaults.
int convert(const config::Recipe& recipe, const plugin::Catalog& catalog,
            const std::string& output) {
  const auto translated = recipe.reference
                              ? config::translate_reference_recipe(recipe.tree, catalog)
                              : config::TranslatedRecipe{recipe.tree, {}};
  config::resolve_recipe({recipe.path, translated.tree}, catalog);  // says what is wrong with it
  for (const std::string& note : translated.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  const std::string text = config::dump_toml(translated.tree);
  if (output.empty())
    std::fputs(text.c_str(), stdout);
  else
    write_file_atomically(output, text);
  return 0;
}

}  // namespace

int run_recipe(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == "new")
    return run_recipe_new({arguments.begin() + 1, arguments.end()});
  std::string action;
  std::string recipe;
  std::string second;
  std::string output;
  bool json = false;
  std::vector<std::string> overrides;
  plugin::CatalogOptions plugins;
  Options options(
      "recipe new ... | check RECIPE | convert RECIPE | diff RECIPE RECIPE | schema",
      "Looks at recipes without running them; no plugin code runs. check prints the recipe with "
      "every default filled in, or all that is wrong with it. convert writes a recipe of NeMo "
      "Automodel, or another one in YAML, as TOML. diff shows in which settings two recipes "
      "differ, defaults included. schema prints a JSON Schema of recipes with the settings of all "
      "plugins, for editors. new writes a recipe for a model and data: espalier recipe new "
      "--help.");
  options.positional("ACTION", action, {"check", "convert", "diff", "schema", "new"}, "what to do")
      .positional("RECIPE", recipe, "a recipe, a TOML or YAML file", false)
      .positional("SECOND", second, "diff: the other recipe", false)
      .value("output", output, "convert: the TOML file to write; default: print it")
      .flag("json", json, "check, diff: print JSON")
      .overrides(overrides, "check: set a key of the recipe", {"seed", "device", "output_dir"});
  add_plugin_options(options, plugins);
  options.parse(arguments);
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  if (action == "schema") {
    std::puts(dump_json(config::recipe_json_schema(catalog), 1).c_str());
    return 0;
  }
  if (recipe.empty() || (action == "diff") == second.empty())
    throw_bad_input(
        "recipe " + action + " needs " + (action == "diff" ? "two recipes" : "one recipe"), {}, {},
        "the command line");
  if (action == "convert") return convert(config::load_recipe(recipe, overrides), catalog, output);
  const auto resolved = [&](const std::string& path, const std::vector<std::string>& changes) {
    return config::resolve_recipe(config::load_recipe(path, changes), catalog);
  };
  const config::ResolvedRecipe first = resolved(recipe, overrides);
  if (action == "diff") return print_difference(first, resolved(second, {}), json);
  for (const std::string& warning : first.warnings)
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  std::printf("%s\n",
              json ? dump_json(first.tree, 1).c_str() : config::dump_toml(first.tree).c_str());
  return 0;
}

}  // namespace espalier::app

#include "config/recipe.h"

#include <algorithm>

#include "config/overrides.h"
#include "config/reference_recipe.h"
#include "config/substitution.h"
#include "config/toml.h"
#include "config/yaml_reader.h"
#include "espalier/base/file.h"

namespace espalier::config {

Recipe parse_recipe(std::string_view text, const std::string& path,
                    const std::vector<std::string>& overrides) {
  const bool yaml = path.ends_with(".yaml") || path.ends_with(".yml");
  Recipe recipe{path, yaml ? parse_yaml(text, path) : parse_toml(text, path)};
  if (!recipe.tree.is_table())
    throw_bad_input("a recipe is a table of sections", std::string(type_phrase(recipe.tree.type())),
                    "sections with keys", path);
  recipe.reference = yaml && is_reference_recipe(recipe.tree);
  ProblemList problems;
  apply_overrides(recipe.tree, overrides, problems);
  if (recipe.reference)
    substitute_reference_environment(recipe.tree, problems);
  else
    substitute_environment(recipe.tree, problems);
  problems.throw_if_any();
  return recipe;
}

Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_recipe(read_file(path), path, overrides);
}

const ComponentUse* ResolvedRecipe::find(std::string_view path) const {
  for (const ComponentUse& use : components) {
    if (use.path == path) return &use;
  }
  return nullptr;
}

std::vector<std::shared_ptr<const plugin::Plugin>> ResolvedRecipe::plugins() const {
  std::vector<std::shared_ptr<const plugin::Plugin>> found;
  for (const ComponentUse& use : components) {
    if (std::find(found.begin(), found.end(), use.component.plugin) == found.end())
      found.push_back(use.component.plugin);
  }
  return found;
}

}  // namespace espalier::config

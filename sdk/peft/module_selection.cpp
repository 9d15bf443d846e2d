#include "espalier/peft/module_selection.h"

#include <algorithm>
#include <regex>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"

namespace espalier::peft {
namespace {

std::string short_name(const std::string& name) { return name.substr(name.rfind('.') + 1); }

/// What only a regular expression has: wildcards know '*' and '?', and dots are dots.
bool is_regex(const std::string& pattern) {
  return pattern.find_first_of("\\()[]|^$+{}") != std::string::npos;
}

std::string wildcard_to_regex(const std::string& pattern) {
  std::string regex;
  for (const char c : pattern) {
    if (c == '*') {
      regex += ".*";
    } else if (c == '?') {
      regex += '.';
    } else {
      if (c == '.') regex += '\\';
      regex += c;
    }
  }
  return regex;
}

bool matches(const std::string& pattern, const std::string& name, bool plain_names) {
  if (is_named(pattern, name)) return true;
  if (plain_names) return false;
  if (is_regex(pattern)) return matches_regex(pattern, name);
  return pattern.find_first_of("*?") != std::string::npos &&
         matches_regex(wildcard_to_regex(pattern), name);
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& name,
                 bool plain_names) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const auto& pattern) { return matches(pattern, name, plain_names); });
}

/// Whether the module lies in one of the chosen layers: the number after the layers' word. As in
/// PEFT a module that is listed by its whole name is in.
bool in_layers(const Selection& selection, const std::string& name) {
  if (selection.layers.empty() || !selection.target_regex.empty()) return true;
  if (std::find(selection.targets.begin(), selection.targets.end(), name) !=
      selection.targets.end())
    return true;
  std::vector<std::string> expressions;
  for (const std::string& pattern : selection.layers_pattern)
    expressions.push_back(".*\\." + pattern + "\\.(\\d+)\\..*");
  if (expressions.empty()) expressions.emplace_back(".*\\.[^.]*\\.(\\d+)\\..*");
  for (const std::string& expression : expressions) {
    std::smatch found;
    if (!std::regex_match(name, found, std::regex(expression))) continue;
    const std::int64_t layer = std::stoll(found[1].str());
    return std::find(selection.layers.begin(), selection.layers.end(), layer) !=
           selection.layers.end();
  }
  return false;
}

bool is_inside(const std::string& module, const std::vector<std::string>& outer) {
  // A module inside a saved one is saved with it.
  for (std::string name = module; !name.empty();) {
    if (std::any_of(outer.begin(), outer.end(),
                    [&](const auto& wanted) { return is_named(wanted, name); }))
      return true;
    const std::size_t dot = name.rfind('.');
    name = dot == std::string::npos ? std::string() : name.substr(0, dot);
  }
  return false;
}

bool is_wanted(const Selection& selection, const Target& target, const nn::Linear* head) {
  if (!selection.target_regex.empty()) return matches_regex(selection.target_regex, target.name);
  if (selection.all_linear) return target.linear != nullptr && target.linear != head;
  return matches_any(selection.targets, target.name, selection.plain_names);
}

bool is_excluded(const Selection& selection, const std::string& name) {
  if (!selection.exclude_regex.empty()) return matches_regex(selection.exclude_regex, name);
  return matches_any(selection.excludes, name, selection.plain_names);
}

void check_patterns(const std::vector<std::string>& patterns, const char* key,
                    const std::vector<std::string>& names, ProblemList& problems) {
  for (const std::string& pattern : patterns) {
    if (std::any_of(names.begin(), names.end(),
                    [&](const auto& name) { return matches(pattern, name, false); }))
      continue;
    problems.add({ErrorCode::kBadInput, "a pattern matches no linear or embedding of the model",
                  pattern, "a module's name, its end, or a pattern of it",
                  std::string("peft.") + key, nearest_modules(pattern, names)});
  }
}

}  // namespace

bool is_named(const std::string& name, const std::string& module) {
  return module == name || (module.size() > name.size() && module.ends_with(name) &&
                            module[module.size() - name.size() - 1] == '.');
}

bool matches_regex(const std::string& pattern, const std::string& text) {
  try {
    return std::regex_match(text, std::regex(pattern));
  } catch (const std::regex_error& error) {
    throw_bad_input("a pattern of modules is no regular expression", pattern, error.what(), "peft",
                    "names and wildcards ('*', '?') need none of \\ ( ) [ ] | ^ $ + { }");
  }
}

bool ends_with_pattern(const std::string& pattern, const std::string& module) {
  return matches_regex("(?:.*\\.)?(?:" + pattern + ")", module);
}

std::string nearest_modules(const std::string& pattern, const std::vector<std::string>& names) {
  std::vector<std::string> candidates;
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (seen.insert(short_name(name)).second) candidates.push_back(short_name(name));
  }
  const std::string bare = short_name(pattern);
  std::string hint = did_you_mean(bare, candidates);
  if (hint.empty()) hint = did_you_mean(pattern, names);
  if (hint.empty()) hint = "the model has " + join_names(candidates);
  return hint;
}

std::vector<Target> targets_of(Model& model) {
  std::vector<Target> targets;
  for (nn::Embedding* embedding : model.parts().embeddings)
    targets.push_back({embedding->name(), nullptr, embedding});
  for (nn::Linear* linear : model.parts().linears)
    targets.push_back({linear->name(), linear, nullptr});
  return targets;
}

std::vector<std::string> module_names(Model& model) {
  std::set<std::string> names;
  const auto add = [&](std::string name) {
    for (; !name.empty() && names.insert(name).second;) {
      const std::size_t dot = name.rfind('.');
      name = dot == std::string::npos ? std::string() : name.substr(0, dot);
    }
  };
  for (const auto& parameter : model.parts().parameters) {
    const std::size_t dot = parameter->name().rfind('.');
    if (dot != std::string::npos) add(parameter->name().substr(0, dot));
  }
  for (const Target& target : targets_of(model)) add(target.name);
  return {names.begin(), names.end()};
}

std::vector<Target> select_modules(Model& model, const Selection& selection,
                                   const std::vector<std::string>& modules_to_save) {
  const std::vector<Target> all = targets_of(model);
  std::vector<std::string> names;
  names.reserve(all.size());
  for (const Target& target : all) names.push_back(target.name);
  ProblemList problems;
  if (!selection.plain_names) {
    check_patterns(selection.targets, "target_modules", names, problems);
    check_patterns(selection.excludes, "exclude_modules", names, problems);
  }
  problems.throw_if_any();

  std::vector<Target> chosen;
  const nn::Linear* head = &model.head().linear();
  for (const Target& target : all) {
    if (!is_wanted(selection, target, head) || is_excluded(selection, target.name)) continue;
    if (!in_layers(selection, target.name) || is_inside(target.name, modules_to_save)) continue;
    chosen.push_back(target);
  }
  if (chosen.empty()) {
    throw_bad_input("no module of the model is chosen for the adapter",
                    selection.all_linear             ? "all linears"
                    : selection.target_regex.empty() ? join_names(selection.targets)
                                                     : selection.target_regex,
                    "names of linears or embeddings", "peft.target_modules",
                    selection.targets.empty() ? "look at exclude_modules and layers_to_transform"
                                              : nearest_modules(selection.targets.front(), names));
  }
  return chosen;
}

}  // namespace espalier::peft

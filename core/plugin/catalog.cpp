#include "plugin/catalog.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <tuple>

#include "espalier/base/json.h"
#include "espalier/base/location.h"
#include "espalier/base/sha256.h"
#include "espalier/base/suggest.h"
#include "plugin/lock_file.h"

namespace espalier::plugin {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".espalier.so";
constexpr const char* kFileOrigin = "--plugins";
constexpr const char* kFolderOrigin = "--plugin-path";
constexpr const char* kEnvironmentOrigin = "ESPALIER_PLUGIN_PATH";
constexpr const char* kInstallationOrigin = "installation";

std::vector<std::string> split_folders(std::string_view list) {
  std::vector<std::string> folders;
  while (!list.empty()) {
    const std::size_t colon = std::min(list.find(':'), list.size());
    if (colon > 0) folders.emplace_back(list.substr(0, colon));
    list.remove_prefix(std::min(colon + 1, list.size()));
  }
  return folders;
}

/// Beside the library in the build tree, and in a folder of our own when installed.
std::vector<std::string> installation_folders() {
  std::vector<std::string> folders;
  const std::string root = library_folder();
  for (const char* folder : {"/plugins", "/espalier/plugins"}) {
    std::error_code error;
    if (!root.empty() && fs::is_directory(root + folder, error)) folders.push_back(root + folder);
  }
  return folders;
}

bool serves(const ComponentDescriptor& component, std::string_view kind, std::string_view name) {
  const Value* names = component.serves.find(kind);
  if (names == nullptr || !names->is_array()) return false;
  return std::any_of(names->as_array().begin(), names->as_array().end(), [&](const Value& served) {
    return served.is_string() && served.as_string() == name;
  });
}

std::string qualified_list(const std::vector<ComponentRef>& components) {
  std::vector<std::string> names;
  names.reserve(components.size());
  for (const ComponentRef& ref : components) names.push_back(ref.qualified_name());
  return join_names(names);
}

/// Marks links to and copies of an earlier candidate, and returns the others. A digest takes longer
/// than the rest of a scan, so only different files are compared by it.
std::vector<Candidate*> set_copies_apart(const std::vector<Candidate*>& candidates) {
  std::map<std::string, Candidate*> by_path;
  std::map<std::string, Candidate*> by_content;
  std::vector<Candidate*> different;
  for (Candidate* candidate : candidates) {
    auto [first, is_new] = by_path.emplace(candidate->path, candidate);
    if (is_new && candidates.front()->path != candidate->path) {
      by_content.emplace(sha256_of_file(candidates.front()->path), candidates.front());
      std::tie(first, is_new) = by_content.emplace(sha256_of_file(candidate->path), candidate);
    }
    if (is_new) {
      different.push_back(candidate);
    } else {
      candidate->verdict = Verdict::kSameFile;
      candidate->same_as = first->second->path;
    }
  }
  return different;
}

[[noreturn]] void refuse_ambiguous(std::string_view interface, std::string_view name,
                                   const std::vector<ComponentRef>& found,
                                   const std::string& where) {
  throw_bad_input(
      "more than one plugin has a " + std::string(interface) + " '" + std::string(name) + "'",
      qualified_list(found), "one of them by its full name", where,
      "write '" + found.front().qualified_name() + "'");
}

}  // namespace

Catalog Catalog::scan(const CatalogOptions& options) {
  Catalog catalog;
  for (const std::string& file : options.files) catalog.add_file(file, kFileOrigin);
  for (const std::string& folder : options.folders) catalog.add_folder(folder, kFolderOrigin);
  const char* variable = std::getenv("ESPALIER_PLUGIN_PATH");
  if (options.environment && variable != nullptr) {
    for (const std::string& folder : split_folders(variable))
      catalog.add_folder(folder, kEnvironmentOrigin);
  }
  if (options.installation) {
    for (const std::string& folder : installation_folders())
      catalog.add_folder(folder, kInstallationOrigin);
  }
  catalog.settle_duplicates(options.files_replace);
  if (!options.lock_file.empty()) catalog.refuse_unlocked(options.lock_file);
  for (const Candidate& candidate : catalog.candidates_) {
    if (candidate.verdict == Verdict::kAccepted) catalog.plugins_.push_back(candidate.plugin);
  }
  return catalog;
}

void Catalog::add_folder(const std::string& folder, const std::string& origin) {
  std::error_code error;
  std::vector<std::string> files;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    if (path.ends_with(kSuffix)) files.push_back(path);
  }
  if (error) {
    Candidate& candidate = candidates_.emplace_back();
    candidate.path = folder;
    candidate.origin = origin;
    candidate.problems = {{ErrorCode::kBadInput,
                           "cannot search the plugin folder: " + error.message(), folder,
                           "a readable folder with NAME.espalier.so files", origin,
                           "correct the path, or leave it out"}};
    return;
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) add_file(file, origin);
}

void Catalog::add_file(const std::string& file, const std::string& origin) {
  std::error_code error;
  const fs::path canonical = fs::canonical(file, error);
  Candidate candidate;
  candidate.path = error ? file : canonical.string();
  candidate.origin = origin;
  try {
    candidate.problems = permission_problems(candidate.path);
    if (candidate.problems.empty()) {
      ManifestReading reading = read_plugin_file(candidate.path);
      candidate.id = reading.manifest.id;
      candidate.problems = std::move(reading.problems);
      if (candidate.problems.empty()) {
        candidate.plugin = std::make_shared<const Plugin>(
            Plugin{std::move(reading.manifest), candidate.path, origin});
        candidate.verdict = Verdict::kAccepted;
      }
    }
  } catch (const Error& refusal) {
    candidate.problems = refusal.problems();
  }
  candidates_.push_back(std::move(candidate));
}

void Catalog::settle_duplicates(bool files_replace) {
  std::map<std::string, std::vector<Candidate*>> by_id;
  for (Candidate& candidate : candidates_) {
    if (candidate.plugin) by_id[candidate.id].push_back(&candidate);
  }
  for (auto& [id, same_id] : by_id) {
    if (same_id.size() < 2) continue;
    const std::vector<Candidate*> different = set_copies_apart(same_id);
    if (different.size() < 2) continue;
    if (files_replace && different.front()->origin == kFileOrigin &&
        different[1]->origin != kFileOrigin) {
      for (Candidate* candidate : different) {
        if (candidate == different.front()) continue;
        candidate->verdict = Verdict::kRefused;
        candidate->problems = {{ErrorCode::kBadPlugin,
                                "another file of this plugin was named",
                                different.front()->path,
                                {},
                                candidate->path,
                                {}}};
      }
      continue;
    }
    std::string paths;
    for (const Candidate* candidate : different)
      paths += (paths.empty() ? "" : "\n") + candidate->path;
    const Problem problem{ErrorCode::kBadPlugin,
                          "different files are the plugin '" + id + "'",
                          paths,
                          "one file",
                          {},
                          "remove one of them, or take its folder out of the search"};
    for (Candidate* candidate : different) {
      candidate->verdict = Verdict::kRefused;
      candidate->problems = {problem};
      candidate->problems.front().where = candidate->path;
    }
  }
}

void Catalog::refuse_unlocked(const std::string& lock_file) {
  const Value lock = read_json_file(lock_file);
  for (Candidate& candidate : candidates_) {
    if (candidate.verdict != Verdict::kAccepted) continue;
    auto problem = lock_problem(lock, lock_file, *candidate.plugin);
    if (!problem) continue;
    candidate.verdict = Verdict::kRefused;
    candidate.problems = {std::move(*problem)};
  }
}

void Catalog::require_named() const {
  ProblemList problems;
  for (const Candidate& candidate : candidates_) {
    const bool named = candidate.origin == kFileOrigin ||
                       (candidate.origin == kFolderOrigin && !candidate.path.ends_with(kSuffix));
    if (!named || candidate.verdict != Verdict::kRefused) continue;
    for (const Problem& problem : candidate.problems) problems.add(problem);
  }
  problems.throw_if_any();
}

std::shared_ptr<const Plugin> Catalog::find_plugin(std::string_view id) const {
  for (const auto& plugin : plugins_) {
    if (plugin->manifest.id == id) return plugin;
  }
  return nullptr;
}

std::shared_ptr<const Plugin> Catalog::plugin(std::string_view id) const {
  if (auto found = find_plugin(id)) return found;
  std::vector<std::string> ids;
  for (const Candidate& candidate : candidates_) {
    if (candidate.id == id && !candidate.problems.empty()) throw Error(candidate.problems);
    if (candidate.verdict == Verdict::kAccepted) ids.push_back(candidate.plugin->manifest.id);
  }
  const std::string hint = did_you_mean(id, ids);
  throw_bad_input(
      "there is no plugin '" + std::string(id) + "'", {},
      ids.empty() ? "a plugin; none was found" : "one of " + join_names(ids), {},
      hint.empty() ? "espalier plugins doctor shows every file that was looked at" : hint);
}

std::vector<ComponentRef> Catalog::components(std::string_view interface) const {
  std::vector<ComponentRef> found;
  for (const auto& plugin : plugins_) {
    for (const ComponentDescriptor& component : plugin->manifest.components) {
      if (interface.empty() || component.interface == interface)
        found.push_back({plugin, &component});
    }
  }
  return found;
}

ComponentRef Catalog::component(std::string_view interface, std::string_view name,
                                const std::string& where) const {
  std::vector<ComponentRef> found;
  for (const ComponentRef& ref : components(interface)) {
    if (ref.component->name == name || ref.qualified_name() == name) found.push_back(ref);
  }
  if (found.size() > 1) refuse_ambiguous(interface, name, found, where);
  if (found.empty()) refuse_unknown(interface, name, where);
  return found.front();
}

void Catalog::refuse_unknown(std::string_view interface, std::string_view name,
                             const std::string& where) const {
  const std::size_t slash = name.find('/');
  std::vector<std::string> names;
  for (const ComponentRef& ref : components(interface))
    names.push_back(slash == std::string_view::npos ? ref.component->name : ref.qualified_name());
  std::string hint = did_you_mean(name, names);
  for (const Candidate& candidate : candidates_) {
    if (candidate.verdict != Verdict::kRefused || !candidate.plugin ||
        candidate.plugin->manifest.find(interface, name.substr(slash + 1)) == nullptr)
      continue;
    hint = "'" + candidate.path + "' has it but was refused: " + candidate.problems.front().what;
  }
  if (hint.empty())
    hint = "espalier plugins list shows what there is, espalier plugins doctor what was refused";
  throw_bad_input(
      "there is no " + std::string(interface) + " '" + std::string(name) + "'", std::string(name),
      names.empty() ? "a plugin that has one; none was found" : "one of " + join_names(names),
      where, hint);
}

std::vector<ComponentRef> Catalog::serving(std::string_view interface, std::string_view kind,
                                           std::string_view name) const {
  std::vector<ComponentRef> found = components(interface);
  std::erase_if(found,
                [&](const ComponentRef& ref) { return !serves(*ref.component, kind, name); });
  return found;
}

std::optional<ComponentRef> Catalog::default_for(std::string_view interface,
                                                 std::string_view section) const {
  std::vector<ComponentRef> found = components(interface);
  std::erase_if(found, [&](const ComponentRef& ref) {
    const Value* property = ref.component->properties.find("default_for");
    return property == nullptr || !property->is_string() || property->as_string() != section;
  });
  if (found.size() > 1)
    throw_bad_input(
        "more than one plugin offers the default of section '" + std::string(section) + "'",
        qualified_list(found), "a type in the recipe", {},
        "write type = \"" + found.front().qualified_name() + "\" in [" + std::string(section) +
            "]");
  if (found.empty()) return std::nullopt;
  return found.front();
}

}  // namespace espalier::plugin

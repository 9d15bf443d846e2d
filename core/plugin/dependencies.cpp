#include "plugin/dependencies.h"

#include <algorithm>

#include "plugin/version.h"

namespace espalier::plugin {
namespace {

using PluginPointer = std::shared_ptr<const Plugin>;

/// Depth-first over requirements; `open_` is the path from a wanted plugin to the current one.
class Ordering {
 public:
  explicit Ordering(const Catalog& catalog) : catalog_(catalog) {}

  void visit(const PluginPointer& plugin) {
    const std::string& id = plugin->manifest.id;
    if (std::any_of(order_.begin(), order_.end(),
                    [&](const PluginPointer& done) { return done->manifest.id == id; }))
      return;
    if (std::find(open_.begin(), open_.end(), id) != open_.end()) return add_cycle(*plugin);
    open_.push_back(id);
    for (const std::string& text : plugin->manifest.requirements) visit_requirement(*plugin, text);
    open_.pop_back();
    order_.push_back(plugin);
  }

  void check_conflicts() {
    for (const PluginPointer& plugin : order_) {
      for (const std::string& text : plugin->manifest.conflicts) check_conflict(*plugin, text);
    }
  }

  std::vector<PluginPointer> finish() {
    problems_.throw_if_any();
    return std::move(order_);
  }

 private:
  void add(const Plugin& plugin, std::string what, std::string found, std::string expected,
           std::string hint) {
    problems_.add({ErrorCode::kBadPlugin, "plugin '" + plugin.manifest.id + "' " + std::move(what),
                   std::move(found), std::move(expected), plugin.path, std::move(hint)});
  }

  /// What a text names; nothing, and a problem, where it is malformed.
  std::vector<Requirement> parse(const Plugin& plugin, const std::string& text) {
    try {
      return parse_alternatives(text);
    } catch (const Error& error) {
      add(plugin, "names another plugin in a malformed way", text,
          error.problems().front().expected, "mend the plugin's registration");
      return {};
    }
  }

  void visit_requirement(const Plugin& plugin, const std::string& text) {
    const std::vector<Requirement> alternatives = parse(plugin, text);
    if (alternatives.empty()) return;
    const auto fits = [&](const Requirement& requirement) {
      const PluginPointer needed = catalog_.find_plugin(requirement.id);
      return needed && requirement.allows(parse_version(needed->manifest.version));
    };
    const auto is_chosen = [&](const Requirement& requirement) {
      return fits(requirement) &&
             std::any_of(order_.begin(), order_.end(), [&](const PluginPointer& done) {
               return done->manifest.id == requirement.id;
             });
    };
    // One that the run has anyway is better than another one.
    auto found = std::find_if(alternatives.begin(), alternatives.end(), is_chosen);
    if (found == alternatives.end())
      found = std::find_if(alternatives.begin(), alternatives.end(), fits);
    if (found != alternatives.end()) return visit(catalog_.find_plugin(found->id));
    add_unmet(plugin, alternatives, text);
  }

  void add_unmet(const Plugin& plugin, const std::vector<Requirement>& alternatives,
                 const std::string& text) {
    for (const Requirement& requirement : alternatives) {
      const PluginPointer needed = catalog_.find_plugin(requirement.id);
      if (!needed) continue;
      return add(plugin, "requires another version of '" + requirement.id + "'",
                 needed->manifest.version + " in " + needed->path, text,
                 "install a version of '" + requirement.id + "' in this range");
    }
    const std::string& id = alternatives.front().id;
    std::string found = "no such plugin";
    for (const Candidate& candidate : catalog_.candidates()) {
      if (candidate.id == id && !candidate.problems.empty())
        found = candidate.path + ", which was refused: " + candidate.problems.front().what;
    }
    add(plugin, "requires a plugin that is not there", found, text,
        "install '" + id + "', or add its folder with --plugin-path");
  }

  void add_cycle(const Plugin& plugin) {
    std::string cycle;
    for (auto id = std::find(open_.begin(), open_.end(), plugin.manifest.id); id != open_.end();
         ++id)
      cycle += *id + " -> ";
    add(plugin, "requires itself, by way of others", cycle + plugin.manifest.id,
        "requirements without a circle", "drop one of these requirements");
  }

  void check_conflict(const Plugin& plugin, const std::string& text) {
    for (const Requirement& conflict : parse(plugin, text)) check_conflict(plugin, conflict);
  }

  void check_conflict(const Plugin& plugin, const Requirement& conflict) {
    for (const PluginPointer& other : order_) {
      if (other->manifest.id != conflict.id || other->path == plugin.path ||
          !conflict.allows(parse_version(other->manifest.version)))
        continue;
      add(plugin, "can't be used together with '" + other->manifest.id + "'",
          other->manifest.id + " " + other->manifest.version + " in " + other->path,
          "a run without " + conflict.text, "choose components of one of the two");
    }
  }

  const Catalog& catalog_;
  std::vector<PluginPointer> order_;
  std::vector<std::string> open_;
  ProblemList problems_;
};

}  // namespace

std::vector<PluginPointer> load_order(const Catalog& catalog,
                                      const std::vector<PluginPointer>& wanted) {
  Ordering ordering(catalog);
  for (const PluginPointer& plugin : wanted) ordering.visit(plugin);
  ordering.check_conflicts();
  return ordering.finish();
}

}  // namespace espalier::plugin

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/manifest.h"
#include "plugin/plugin_file.h"

namespace espalier::plugin {

struct CatalogOptions {
  std::vector<std::string> files;    ///< --plugins: these files, wherever they are
  std::vector<std::string> folders;  ///< --plugin-path
  bool environment = true;           ///< ESPALIER_PLUGIN_PATH, folders separated by ':'
  bool installation = true;          ///< the folder that Espalier's own plugins are installed in
  /// Files of `files` stand in for other files of the same id: an author tries out a plugin that is
  /// also installed.
  bool files_replace = false;
  /// --locked: a lock file; plugins that it does not have, or as another file, are refused.
  std::string lock_file;
};

enum class Verdict {
  kAccepted,
  kSameFile,  ///< the same plugin again: a link or a copy of an accepted file
  kRefused,
};

/// One file (or folder) that was looked at, and what came of it.
struct Candidate {
  std::string path;  ///< canonical; as given where there is no such file
  std::string origin;
  std::string id;  ///< of the plugin; empty when the manifest could not be read
  Verdict verdict = Verdict::kRefused;
  std::vector<Problem> problems;         ///< why it was refused
  std::string same_as;                   ///< for kSameFile
  std::shared_ptr<const Plugin> plugin;  ///< null when the manifest could not be read completely
};

/// A component and the plugin that has it. Never null inside; `component` lives in `plugin`.
struct ComponentRef {
  std::shared_ptr<const Plugin> plugin;
  const ComponentDescriptor* component = nullptr;

  /// "vendor.name/component", which is unambiguous.
  std::string qualified_name() const { return plugin->manifest.id + "/" + component->name; }
};

/// All plugins that can be used, known by their manifests alone: no plugin code runs here. A file
/// that can't be used is recorded with the reason and hides none of the others. Immutable.
class Catalog {
 public:
  /// Looks at the files and at every NAME.espalier.so of the folders, in the order of the fields of
  /// CatalogOptions.
  static Catalog scan(const CatalogOptions& options);

  /// Throws Error with the reasons when a file or folder that the user named himself is refused.
  void require_named() const;

  const std::vector<Candidate>& candidates() const { return candidates_; }
  /// The accepted ones.
  const std::vector<std::shared_ptr<const Plugin>>& plugins() const { return plugins_; }

  /// Throws Error that names what there is, or why the plugin was refused.
  std::shared_ptr<const Plugin> plugin(std::string_view id) const;
  /// nullptr when there is none.
  std::shared_ptr<const Plugin> find_plugin(std::string_view id) const;

  /// All components of an interface; of every interface when it is empty.
  std::vector<ComponentRef> components(std::string_view interface = {}) const;
  /// By short name where one plugin has it, or by "vendor.name/component". Throws Error with
  /// suggestions; `where` is the position of the name in the user's recipe.
  ComponentRef component(std::string_view interface, std::string_view name,
                         const std::string& where = {}) const;
  /// Components that declare `serves(kind, name)`, e.g. "architectures", "LlamaForCausalLM".
  std::vector<ComponentRef> serving(std::string_view interface, std::string_view kind,
                                    std::string_view name) const;
  /// The component that declares the property default_for = `section`; two are an Error.
  std::optional<ComponentRef> default_for(std::string_view interface,
                                          std::string_view section) const;

 private:
  void add_folder(const std::string& folder, const std::string& origin);
  void add_file(const std::string& file, const std::string& origin);
  void settle_duplicates(bool files_replace);
  void refuse_unlocked(const std::string& lock_file);
  [[noreturn]] void refuse_unknown(std::string_view interface, std::string_view name,
                                   const std::string& where) const;

  std::vector<Candidate> candidates_;
  std::vector<std::shared_ptr<const Plugin>> plugins_;
};

}  // namespace espalier::plugin

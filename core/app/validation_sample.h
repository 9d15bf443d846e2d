#pragma once

#include <string>

#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier::app {

/// conformance.json of a plugin: what its components need to be tried out.
///
///     {"components": {"chat": {"config": {"path": "{folder}/chat.jsonl"},
///                              "files": {"chat.jsonl": "..."}},
///                     "llama": {"configs": [{"model_type": "llama", ...}]}}}
///
/// `config` is the component's section of a recipe, `files` are written to a new folder for each
/// check (a text, or bytes as {"hex": "..."}), and "{folder}" in texts stands for it. The entry "*"
/// is for components without one of their own. The rest is for the checks of the interface.
class ValidationSamples {
 public:
  /// An empty `path` stands for NAME.conformance.json beside the plugin, which may be missing.
  /// Throws Error for a file that is malformed or names components that the plugin does not have.
  ValidationSamples(const std::string& path, const plugin::Plugin& plugin);

  /// The component's entry; an empty table where there is none.
  Value entry(const std::string& component) const;

 private:
  Value components_{Table()};
};

/// A fresh folder with the files of an entry; removed at the end.
class SampleFolder {
 public:
  explicit SampleFolder(const Value& entry);
  SampleFolder(const SampleFolder&) = delete;
  SampleFolder& operator=(const SampleFolder&) = delete;
  ~SampleFolder();

  const std::string& path() const { return path_; }
  /// The entry's config with "{folder}" replaced, checked, with defaults. Throws Error naming the
  /// settings that are required and missing.
  Value config(const Value& entry, const ComponentDescriptor& component) const;

 private:
  std::string path_;
};

}  // namespace espalier::app

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/run/model_loader.h"
#include "espalier/base/registrar.h"

namespace espalier {

/// Espalier for C++ programs without the command line: finds plugins, loads them when a component
/// of theirs is first wanted, and makes components by name. One thread at a time. Keep it alive as
/// long as anything that it made.
class ESPALIER_API ComponentLibrary {
 public:
  /// Looks in `folders`, then in ESPALIER_PLUGIN_PATH and beside the program as the command line
  /// does.
  explicit ComponentLibrary(std::vector<std::string> folders = {});
  ComponentLibrary(const ComponentLibrary&) = delete;
  ComponentLibrary& operator=(const ComponentLibrary&) = delete;
  ~ComponentLibrary();

  /// Throws Error for an unknown name, a wrong config, or a plugin that fails. `config` is a table;
  /// absent keys take their defaults.
  template <class I>
  std::shared_ptr<I> create(const std::string& name, const Value& config = Value(Table())) {
    return std::static_pointer_cast<I>(create_object(I::kInterface, name, config));
  }

  /// The model of a Hugging Face folder or a hub id in the local cache, built by the plugin that
  /// serves it, with its weights.
  LoadedModel from_pretrained(const std::string& model, const ModelLoadOptions& options = {});

 private:
  struct Plugins;

  std::shared_ptr<void> create_object(InterfaceId interface, const std::string& name,
                                      const Value& config);

  std::unique_ptr<Plugins> plugins_;
};

}  // namespace espalier

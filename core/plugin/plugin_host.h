#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/base/registrar.h"
#include "espalier/sdk/plugin.h"
#include "plugin/catalog.h"

namespace espalier::plugin {

/// Loads plugins and makes their components. Every call into a plugin is guarded: whatever it
/// throws becomes an Error that names the plugin. Nothing is unloaded; `shutdown` (or the
/// destructor) tells the plugins, last loaded first, that the program ends. One thread at a time
/// for `load` and `shutdown`; `create` may be called from several.
class PluginHost {
 public:
  PluginHost() = default;
  PluginHost(const PluginHost&) = delete;
  PluginHost& operator=(const PluginHost&) = delete;
  ~PluginHost() { shutdown(); }

  /// Loads in the given order (see load_order); a plugin that is loaded already is passed over. One
  /// that fails leaves nothing behind in the registry. Throws Error(kBadPlugin).
  void load(const std::vector<std::shared_ptr<const Plugin>>& plugins);

  /// In the order of loading.
  const std::vector<std::shared_ptr<const Plugin>>& loaded() const { return loaded_; }

  /// Makes a component of interface I from a checked config. The plugin must be loaded. An Error
  /// about the user's input passes as it is; everything else is the plugin's fault.
  template <class I>
  std::shared_ptr<I> create(const ComponentRef& component, const Value& config) const {
    return std::static_pointer_cast<I>(create_object(I::kInterface, component, config));
  }

  /// The same without the type: the pointer is of the interface named.
  std::shared_ptr<void> create_object(InterfaceId interface, const ComponentRef& component,
                                      const Value& config) const;

  void shutdown() noexcept;

 private:
  struct Loaded {
    std::shared_ptr<const Plugin> plugin;
    const EspalierPluginDescriptor* descriptor = nullptr;
    std::vector<ComponentDescriptor> components;
  };

  std::vector<Loaded> registry_;
  std::vector<std::shared_ptr<const Plugin>> loaded_;
};

}  // namespace espalier::plugin

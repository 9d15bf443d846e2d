#include "engine/run/component_library.h"

#include "config/model_path.h"
#include "espalier/stable/stable_tensor.h"
#include "plugin/dependencies.h"
#include "plugin/model_provider.h"
#include "plugin/plugin_host.h"

namespace espalier {

/// What is known and what is loaded; shuts the loaded plugins down at the end.
struct ComponentLibrary::Plugins {
  plugin::Catalog catalog;
  plugin::PluginHost host;

  void load(const plugin::ComponentRef& component) {
    host.load(plugin::load_order(catalog, {component.plugin}));
  }
};

ComponentLibrary::ComponentLibrary(std::vector<std::string> folders)
    : plugins_(std::make_unique<Plugins>()) {
  stable::register_factories();
  plugins_->catalog = plugin::Catalog::scan({.folders = std::move(folders)});
  plugins_->catalog.require_named();
}

ComponentLibrary::~ComponentLibrary() = default;

std::shared_ptr<void> ComponentLibrary::create_object(InterfaceId interface,
                                                      const std::string& name,
                                                      const Value& config) {
  const plugin::ComponentRef component = plugins_->catalog.component(interface.name, name);
  plugins_->load(component);
  return plugins_->host.create_object(interface, component, config);
}

LoadedModel ComponentLibrary::from_pretrained(const std::string& model,
                                              const ModelLoadOptions& options) {
  const std::string folder = config::resolve_model_path(model);
  const plugin::ComponentRef provider =
      plugin::model_provider_for(plugins_->catalog, folder, {.config = options.config});
  ModelLoadOptions complete = options;
  complete.token_head = plugin::token_head_of(provider);
  plugins_->load(provider);
  return load_model(*plugins_->host.create<ModelProvider>(provider, Value(Table())), folder,
                    complete);
}

}  // namespace espalier

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/base/schema.h"
#include "espalier/base/value.h"

namespace espalier {

/// Names an interface of the SDK ("Loss") and its version. Equal names with different versions
/// don't match.
struct InterfaceId {
  std::string_view name;
  std::uint32_t version = 1;
};

/// Everything that the host knows of one component. All but `create` goes into the manifest, so
/// that listing, inspecting and checking a recipe run no plugin code.
struct ComponentDescriptor {
  std::string interface;  ///< e.g. "Loss"
  std::uint32_t interface_version = 1;
  std::string name;  ///< short name, unique in the plugin: "masked_cross_entropy"
  std::string doc;   ///< one sentence
  SchemaSpec schema;
  /// What it serves, by kind: {"architectures": ["LlamaForCausalLM"], "model_types": ["llama"]}.
  Table serves;
  /// The reference's `_target_` paths that mean this component, each with a map of its keys to
  /// ours.
  Table aliases;
  /// Capabilities and other facts for `inspect`; free form.
  Table properties;
  /// Builds the component from a checked config. The pointer is an `I*` for the interface `I` named
  /// above; the deleter lives in the plugin. Throws Error; the host guards the call.
  std::function<std::shared_ptr<void>(const Value& config)> create;
};

/// Fluent access to what was just added.
class ComponentBuilder {
 public:
  explicit ComponentBuilder(ComponentDescriptor& component) : component_(component) {}

  ComponentBuilder& serves(std::string_view kind, const std::vector<std::string>& names) {
    Array array;
    for (const std::string& name : names) array.emplace_back(name);
    component_.serves.set(kind, std::move(array));
    return *this;
  }
  ComponentBuilder& alias(std::string_view target, Table key_map = {}) {
    component_.aliases.set(target, std::move(key_map));
    return *this;
  }
  ComponentBuilder& property(std::string_view name, Value value) {
    component_.properties.set(name, std::move(value));
    return *this;
  }

 private:
  ComponentDescriptor& component_;
};

/// Given to a plugin's registration function; collects, commits nothing. The host validates the
/// whole list first. Borrowed for that call, one thread.
class ESPALIER_API Registrar {
 public:
  /// Registers component `T` of interface `I`. `T` is constructible from its `Config`, which
  /// declares its schema; a type without `Config` is default-constructed.
  template <class I, class T>
  ComponentBuilder add(std::string name, std::string doc) {
    static_assert(
        requires { I::kInterface.version; },
        "I is an interface: it has static constexpr InterfaceId kInterface");
    static_assert(std::is_base_of_v<I, T>, "T derives from the interface I");
    static_assert(!std::is_abstract_v<T>, "T implements every function of I");
    ComponentDescriptor component;
    component.interface = std::string(I::kInterface.name);
    component.interface_version = I::kInterface.version;
    component.name = std::move(name);
    component.doc = std::move(doc);
    if constexpr (requires { typename T::Config; }) {
      static_assert(DeclaredConfig<typename T::Config>,
                    "Config declares static ConfigSchema<Config> schema()");
      static_assert(std::is_constructible_v<T, typename T::Config>,
                    "T is constructed from its Config");
      component.schema = T::Config::schema().spec();
      component.create = [](const Value& config) -> std::shared_ptr<void> {
        return std::shared_ptr<I>(std::make_shared<T>(T::Config::schema().parse(config)));
      };
    } else {
      component.create = [](const Value&) -> std::shared_ptr<void> {
        return std::shared_ptr<I>(std::make_shared<T>());
      };
    }
    return add_descriptor(std::move(component));
  }

  /// For components that `add` can't express.
  ComponentBuilder add_descriptor(ComponentDescriptor component);

  /// "vendor.name >= 1.2, < 2": another plugin that must be loaded first.
  void require(std::string requirement) { requirements_.push_back(std::move(requirement)); }
  /// A plugin that can't be used together with this one, with an optional version range.
  void conflict(std::string plugin) { conflicts_.push_back(std::move(plugin)); }
  void license(std::string spdx) { license_ = std::move(spdx); }

  const std::vector<std::unique_ptr<ComponentDescriptor>>& components() const {
    return components_;
  }
  const std::vector<std::string>& requirements() const { return requirements_; }
  const std::vector<std::string>& conflicts() const { return conflicts_; }
  const std::string& license() const { return license_; }

 private:
  std::vector<std::unique_ptr<ComponentDescriptor>> components_;
  std::vector<std::string> requirements_;
  std::vector<std::string> conflicts_;
  std::string license_;
};

}  // namespace espalier

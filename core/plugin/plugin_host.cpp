#include "plugin/plugin_host.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "espalier/base/json.h"
#include "espalier/base/stable_registrar.h"
#include "plugin/crash_guard.h"
#include "plugin/fingerprint.h"
#include "plugin/library.h"

namespace espalier::plugin {
namespace {

constexpr std::size_t kMessageSize = 4096;

[[noreturn]] void refuse(const Plugin& plugin, const std::string& what, std::string found,
                         std::string expected, std::string hint) {
  throw Error({ErrorCode::kBadPlugin, "plugin '" + plugin.manifest.id + "' " + what,
               std::move(found), std::move(expected), plugin.path, std::move(hint)});
}

constexpr const char* kRebuild = "rebuild the plugin with espalier_add_plugin()";

/// The shape of the descriptor, before any field behind it is believed.
void check_shape(const Plugin& plugin, const EspalierPluginDescriptor* descriptor) {
  if (descriptor == nullptr)
    refuse(plugin, "has no descriptor", "a null pointer", "a static EspalierPluginDescriptor",
           kRebuild);
  if (reinterpret_cast<std::uintptr_t>(descriptor) % alignof(EspalierPluginDescriptor) != 0)
    refuse(plugin, "has a misaligned descriptor", "an odd address",
           "a multiple of " + std::to_string(alignof(EspalierPluginDescriptor)), kRebuild);
  if (descriptor->magic != ESPALIER_PLUGIN_MAGIC)
    refuse(plugin, "has no valid descriptor", "magic number " + std::to_string(descriptor->magic),
           std::to_string(ESPALIER_PLUGIN_MAGIC), kRebuild);
  if (descriptor->struct_size < sizeof(EspalierPluginDescriptor))
    refuse(plugin, "has a descriptor that is too short",
           std::to_string(descriptor->struct_size) + " bytes",
           "at least " + std::to_string(sizeof(EspalierPluginDescriptor)) + " bytes", kRebuild);
}

/// Descriptor and manifest say the same things; what they disagree on is reported at once.
void check_agreement(const Plugin& plugin, const EspalierPluginDescriptor& descriptor) {
  ProblemList problems;
  const auto compare = [&](const char* field, const std::string& code,
                           const std::string& manifest) {
    if (code == manifest) return;
    problems.add({ErrorCode::kBadPlugin,
                  "plugin '" + plugin.manifest.id + "' has a manifest that is not its own",
                  std::string(field) + " " + code + " in the code",
                  std::string(field) + " " + manifest + ", as the manifest says", plugin.path,
                  kRebuild});
  };
  const auto text = [](const char* field) { return std::string(field == nullptr ? "" : field); };
  compare("id", text(descriptor.id), plugin.manifest.id);
  compare("version", text(descriptor.version), plugin.manifest.version);
  compare("tier", text(descriptor.tier), plugin.manifest.tier);
  compare("ABI major", std::to_string(descriptor.abi_major),
          std::to_string(plugin.manifest.abi_major));
  compare("ABI minor", std::to_string(descriptor.abi_minor),
          std::to_string(plugin.manifest.abi_minor));
  compare("fingerprint", text(descriptor.fingerprint), plugin.manifest.fingerprint);
  problems.throw_if_any();
  if (descriptor.register_components == nullptr)
    refuse(plugin, "has no registration function", "a null pointer", "ESPALIER_PLUGIN(...)",
           kRebuild);
}

/// What was registered is what the manifest promised, field by field of every schema.
void check_registrations(const Plugin& plugin, const Registrar& registrar) {
  ProblemList problems;
  const auto add = [&](std::string found, std::string expected) {
    problems.add(
        {ErrorCode::kBadPlugin,
         "plugin '" + plugin.manifest.id + "' registers other components than its manifest says",
         std::move(found), std::move(expected), plugin.path, kRebuild});
  };
  std::vector<std::string> seen;
  for (const auto& component : registrar.components()) {
    const std::string name = component->interface + " '" + component->name + "'";
    const ComponentDescriptor* promised =
        plugin.manifest.find(component->interface, component->name);
    if (std::find(seen.begin(), seen.end(), name) != seen.end())
      add(name + " twice", "each one once");
    seen.push_back(name);
    if (promised == nullptr)
      add(name, "no such component");
    else if (dump_json(component_to_value(*component)) != dump_json(component_to_value(*promised)))
      add(name + " with another declaration", dump_json(component_to_value(*promised)));
    else if (!component->create)
      add(name + " without a function that makes it", name);
  }
  for (const ComponentDescriptor& promised : plugin.manifest.components) {
    const std::string name = promised.interface + " '" + promised.name + "'";
    if (std::find(seen.begin(), seen.end(), name) == seen.end()) add("no " + name, name);
  }
  problems.throw_if_any();
}

std::vector<ComponentDescriptor> collect_components(const Plugin& plugin,
                                                    const EspalierPluginDescriptor& descriptor) {
  Registrar registrar;
  StableRegistrar stable(registrar);
  void* target = &registrar;
  if (plugin.manifest.tier == kStablePluginTier) target = stable.c_registrar();
  std::array<char, kMessageSize> message{};
  const std::int32_t code = descriptor.register_components(target, message.data(), message.size());
  message.back() = '\0';
  if (code != 0 || !stable.refusal().empty())
    refuse(plugin, "failed to register its components",
           stable.refusal().empty() ? message.data() : stable.refusal(),
           "a registration without errors",
           "none of its components is available; report this to its author");
  check_registrations(plugin, registrar);
  std::vector<ComponentDescriptor> components;
  for (const auto& component : registrar.components()) components.push_back(*component);
  return components;
}

}  // namespace

void PluginHost::load(const std::vector<std::shared_ptr<const Plugin>>& plugins) {
  for (const auto& plugin : plugins) {
    const auto is_same = [&](const Loaded& other) { return other.plugin->path == plugin->path; };
    if (std::any_of(registry_.begin(), registry_.end(), is_same)) continue;
    const CrashGuard guard(plugin->manifest.id, plugin->path);
    const EspalierPluginDescriptor* descriptor = nullptr;
    try {
      descriptor = open_plugin(plugin->path)();
    } catch (const Error&) {
      throw;
    } catch (...) {
      refuse(*plugin, "threw while it was loaded", "an exception", "none", kRebuild);
    }
    check_shape(*plugin, descriptor);
    check_agreement(*plugin, *descriptor);
    // All or nothing: the registry changes only after everything was checked.
    registry_.push_back({plugin, descriptor, collect_components(*plugin, *descriptor)});
    loaded_.push_back(plugin);
  }
}

std::shared_ptr<void> PluginHost::create_object(InterfaceId interface, const ComponentRef& ref,
                                                const Value& config) const {
  const Plugin& plugin = *ref.plugin;
  const std::string name = ref.component->interface + " '" + ref.component->name + "'";
  const auto loaded = std::find_if(registry_.begin(), registry_.end(), [&](const Loaded& entry) {
    return entry.plugin->path == plugin.path;
  });
  ESPALIER_ASSERT(loaded != registry_.end(),
                  "the plugin '" + plugin.manifest.id + "' is not loaded");
  const auto component = std::find_if(
      loaded->components.begin(), loaded->components.end(), [&](const ComponentDescriptor& entry) {
        return entry.interface == ref.component->interface && entry.name == ref.component->name;
      });
  ESPALIER_ASSERT(component != loaded->components.end(), "the component is not registered");
  if (component->interface != interface.name || component->interface_version != interface.version)
    refuse(plugin, "has a component of another interface",
           component->interface + " version " + std::to_string(component->interface_version),
           std::string(interface.name) + " version " + std::to_string(interface.version),
           "rebuild the plugin against this SDK");
  std::shared_ptr<void> object;
  try {
    object = component->create(config);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInternal) throw;
    refuse(plugin, "failed to make " + name, error.problems().front().what, "a working component",
           "report this to the plugin's author");
  } catch (const std::exception& error) {
    refuse(plugin, "failed to make " + name, error.what(), "a working component, or an Error",
           "report this to the plugin's author");
  } catch (...) {
    refuse(plugin, "failed to make " + name, "something thrown that is not a std::exception",
           "a working component, or an Error", "report this to the plugin's author");
  }
  if (!object)
    refuse(plugin, "failed to make " + name, "a null pointer", "a working component, or an Error",
           "report this to the plugin's author");
  return object;
}

void PluginHost::shutdown() noexcept {
  for (auto entry = registry_.rbegin(); entry != registry_.rend(); ++entry) {
    if (entry->descriptor->shutdown != nullptr) entry->descriptor->shutdown();
  }
  registry_.clear();
  loaded_.clear();
}

}  // namespace espalier::plugin

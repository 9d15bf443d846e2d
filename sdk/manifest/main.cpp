// espalier-manifest LIBRARY OUTPUT.json: asks a freshly linked plugin, in the build, what it
// registers, and writes that as its manifest. So the C++ declaration stays the only place where a
// schema is written.
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <exception>
#include <string>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/manifest.h"
#include "espalier/base/stable_registrar.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& where) {
  throw Error({ErrorCode::kBadPlugin, what, {}, {}, where, {}});
}

PluginManifest ask(const std::string& path) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail(std::string("the plugin does not load: ") + ::dlerror(), path);
  const auto entry = reinterpret_cast<EspalierPluginEntry>(::dlsym(library, kPluginEntryName));
  if (entry == nullptr) fail("no source of the plugin has ESPALIER_PLUGIN(...)", path);
  const EspalierPluginDescriptor& descriptor = *entry();

  Registrar registrar;
  std::array<char, 4096> message{};
  StableRegistrar stable(registrar);
  void* target = &registrar;
  if (descriptor.tier == std::string_view(kStablePluginTier)) target = stable.c_registrar();
  const std::int32_t code = descriptor.register_components(target, message.data(), message.size());
  if (code != 0 || !stable.refusal().empty())
    fail("registering the components failed: " +
             (stable.refusal().empty() ? std::string(message.data()) : stable.refusal()),
         path);

  PluginManifest manifest;
  manifest.id = descriptor.id;
  manifest.version = descriptor.version;
  manifest.tier = descriptor.tier;
  manifest.abi_major = descriptor.abi_major;
  manifest.abi_minor = descriptor.abi_minor;
  manifest.fingerprint = descriptor.fingerprint;
  manifest.license = registrar.license();
  manifest.requirements = registrar.requirements();
  manifest.conflicts = registrar.conflicts();
  for (const auto& component : registrar.components()) manifest.components.push_back(*component);
  return manifest;
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: espalier-manifest LIBRARY OUTPUT.json\n", stderr);
    return 2;
  }
  try {
    const espalier::Value manifest = espalier::manifest_to_value(espalier::ask(argv[1]));
    espalier::manifest_from_value(manifest, argv[1]);  // refuses what a host would refuse
    espalier::write_file_atomically(argv[2], espalier::dump_json(manifest, 1) + "\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}

#include "plugin/plugin_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/sdk/plugin.h"
#include "espalier/sdk/stable_c.h"
#include "plugin/elf_reader.h"
#include "plugin/fingerprint.h"

namespace espalier::plugin {
namespace {

void require_regular_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw_io("open", path, errno);
  if (S_ISREG(status.st_mode)) return;
  throw Error({ErrorCode::kBadPlugin, "the plugin is not a file",
               S_ISDIR(status.st_mode) ? "a folder" : "a device, pipe or socket",
               "a shared library NAME.espalier.so", path,
               S_ISDIR(status.st_mode) ? "give the folder with --plugin-path" : ""});
}

Value manifest_of(const std::string& path) {
  const MappedFile file(path);
  const std::optional<std::string_view> text =
      ElfReader(file.bytes(), path).section(kManifestSection);
  if (!text)
    throw Error({ErrorCode::kBadPlugin, "the library has no plugin manifest",
                 "no section '" + std::string(kManifestSection) + "'", "a plugin of Espalier", path,
                 "build it with espalier_add_plugin()"});
  try {
    return parse_json(*text, {.file = path});
  } catch (const Error& error) {
    throw Error({ErrorCode::kBadPlugin, "the plugin's manifest is unreadable",
                 error.problems().front().what, "JSON, as espalier_add_plugin() writes it", path,
                 "build the plugin again"});
  }
}

}  // namespace

std::vector<Problem> compatibility_problems(const PluginManifest& header, const std::string& path) {
  const std::string name = "plugin '" + header.id + "'";
  const auto abi_text = [](std::int64_t major, std::int64_t minor) {
    return "plugin ABI " + std::to_string(major) + "." + std::to_string(minor);
  };
  // The two tiers count their versions apart.
  const bool stable = header.tier == kStablePluginTier;
  const std::int64_t major = stable ? ESPALIER_C_ABI_MAJOR : kPluginAbiMajor;
  const std::int64_t minor = stable ? ESPALIER_C_ABI_MINOR : kPluginAbiMinor;
  const std::string found = abi_text(header.abi_major, header.abi_minor);
  const std::string expected = abi_text(major, minor);
  if (header.abi_major < major)
    return {{ErrorCode::kBadPlugin, name + " was built for an older Espalier", found, expected,
             path, "get a newer version of the plugin, or rebuild it against this SDK"}};
  if (header.abi_major > major || (header.abi_major == major && header.abi_minor > minor))
    return {{ErrorCode::kBadPlugin, name + " was built for a newer Espalier", found, expected, path,
             "update Espalier, or get an older version of the plugin"}};
  if (stable) return {};
  if (header.tier != kPluginTier)
    return {{ErrorCode::kBadPlugin,
             name + " uses a kind of interface that this program does not know", header.tier,
             std::string(kPluginTier) + " or " + kStablePluginTier, path, "update Espalier"}};
  return compare_fingerprints(header.fingerprint, host_fingerprint(), header.id, path);
}

ManifestReading read_plugin_file(const std::string& path) {
  require_regular_file(path);
  const Value value = manifest_of(path);
  ManifestReading reading;
  reading.manifest = manifest_header_from_value(value, path);
  reading.problems = compatibility_problems(reading.manifest, path);
  if (reading.problems.empty()) reading.manifest = manifest_from_value(value, path);
  return reading;
}

std::vector<Problem> permission_problems(const std::string& file) {
  std::vector<Problem> problems;
  const auto check = [&](const std::string& path, const char* kind) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || (status.st_mode & S_IWOTH) == 0) return;
    problems.push_back({ErrorCode::kBadPlugin,
                        std::string("everyone may write to the plugin's ") + kind, path,
                        std::string("a ") + kind + " that only its owner can change", file,
                        "chmod o-w '" + path + "'"});
  };
  check(std::filesystem::path(file).parent_path().string(), "folder");
  check(file, "file");
  return problems;
}

}  // namespace espalier::plugin

#include "app/libtorch.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/location.h"
#include "espalier/sdk/fingerprint.h"
#include "plugin/elf_reader.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVariable = "ESPALIER_LIBTORCH";

/// "2.15.0" of the line `__version__ = '2.15.0+cpu'` in version.py; empty when there is none.
std::string version_of(const fs::path& root) {
  std::ifstream file(root / "version.py");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("__version__")) continue;
    const std::size_t start = line.find_first_of("0123456789");
    if (start == std::string::npos) return {};
    return line.substr(start, line.find_first_not_of("0123456789.", start) - start);
  }
  return {};
}

[[noreturn]] void refuse(std::string what, std::string found, std::string expected,
                         const std::string& folder) {
  throw Error({ErrorCode::kUnsupported, std::move(what), std::move(found), std::move(expected),
               std::string(kVariable) + "=" + folder,
               "give the folder that holds LibTorch's lib/, or unset the variable to use the "
               "LibTorch that Espalier was built with"});
}

/// The folder of its libraries, checked.
std::string library_folder_of(const std::string& folder) {
  std::error_code error;
  fs::path root = fs::absolute(folder, error);
  if (fs::exists(root / "torch" / "lib", error)) root /= "torch";
  if (!fs::exists(root / "lib" / "libtorch_cpu.so", error))
    refuse("there is no LibTorch", "no lib/libtorch_cpu.so",
           "lib/libtorch_cpu.so or torch/lib/libtorch_cpu.so in that folder", folder);
  const std::string found = version_of(root);
  const std::string expected = ESPALIER_SDK_TORCH_VERSION;
  if (!found.empty() && !expected.empty() && found != expected)
    refuse("this LibTorch has another version than Espalier was built for", found, expected,
           folder);
  return (root / "lib").string();
}

std::string search_path() {
  const char* path = std::getenv("LD_LIBRARY_PATH");
  return path == nullptr ? std::string() : path;
}

}  // namespace

void use_chosen_libtorch(char** arguments) {
  const char* chosen = std::getenv(kVariable);
  if (chosen == nullptr || *chosen == 0) return;
  const std::string folder = library_folder_of(chosen);
  const std::string path = search_path();
  if (path == folder || path.starts_with(folder + ":")) return;
  ::setenv("LD_LIBRARY_PATH", (path.empty() ? folder : folder + ":" + path).c_str(), 1);
  ::execv("/proc/self/exe", arguments);
  throw_io("start", "/proc/self/exe", errno);
}

std::string libtorch_place() {
  const std::string folder = library_folder();
  const std::string engine = folder + "/libespalier_engine.so";
  std::error_code error;
  if (!fs::exists(engine, error)) return "not needed: this build has no engine";
  std::string first = search_path().substr(0, search_path().find(':'));
  if (!first.empty() && fs::exists(first + "/libtorch_cpu.so", error)) return first;
  try {
    const MappedFile file(engine);
    for (std::string place : plugin::ElfReader(file.bytes(), engine).run_path()) {
      if (const std::size_t origin = place.find("$ORIGIN"); origin != std::string::npos)
        place.replace(origin, 7, folder);
      if (fs::exists(place + "/libtorch_cpu.so", error)) return place;
    }
  } catch (const Error& problem) {
    return problem.problems().front().what;
  }
  return "not found beside the engine; set ESPALIER_LIBTORCH to its folder, or run "
         "scripts/setup.sh and build again";
}

}  // namespace espalier::app

#include "espalier/base/location.h"

#include <dlfcn.h>

#include <filesystem>

namespace espalier {

std::string library_folder() {
  static constexpr char kAnchor = 0;  // lies in this library
  Dl_info info{};
  if (::dladdr(&kAnchor, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(info.dli_fname, error);
  return error ? std::string() : path.parent_path().string();
}

}  // namespace espalier

#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace espalier::testing {

/// Path of a file under tests/fixtures.
inline std::string fixture_path(std::string_view relative) {
  const char* root = std::getenv("ESPALIER_FIXTURES");
  return (std::filesystem::path(root == nullptr ? "tests/fixtures" : root) / relative).string();
}

}  // namespace espalier::testing

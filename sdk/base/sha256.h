#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "espalier/base/api.h"

namespace espalier {

/// The SHA-256 digest (FIPS 180-4) as 64 lower-case hexadecimal digits.
ESPALIER_API std::string sha256(std::span<const std::byte> bytes);

/// Digest of a file's content. Throws Error(kIo).
ESPALIER_API std::string sha256_of_file(const std::string& path);

}  // namespace espalier

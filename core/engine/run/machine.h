#pragma once

#include <cstdint>
#include <string>

namespace espalier {

/// Resident memory of this process now and at its highest, in bytes.
std::int64_t resident_bytes();
std::int64_t peak_resident_bytes();

/// Highest instruction set that the CPU and the tensor library use: "avx512_bf16", "avx512",
/// "avx2", "baseline".
std::string instruction_set();

/// "1.5 GB", "820 MB".
std::string bytes_text(std::int64_t bytes);

}  // namespace espalier

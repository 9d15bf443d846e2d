#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/dtype.h"

/// What stands before the numbers of an .npy file. Source: NEP 1, format versions 1 to 3.
struct NpyHeader {
  espalier::DType dtype = espalier::DType::kF32;
  std::vector<std::int64_t> shape;
  bool columns_first = false;  ///< `fortran_order`: the first index runs fastest
  std::uint64_t size = 0;      ///< bytes up to the numbers
};

/// Throws espalier::Error(kBadInput), naming `where`, for what is no such file, or holds numbers
/// that tensors don't (objects, texts, other byte orders).
NpyHeader read_npy_header(std::span<const std::byte> file, const std::string& where);

/// The header of version 1.0 for numbers in row-major order; none for dtypes that NumPy lacks.
std::optional<std::string> npy_header(espalier::DType dtype, std::span<const std::int64_t> shape);

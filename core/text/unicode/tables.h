#pragma once

#include <array>
#include <cstdint>

namespace espalier::text::tables {

enum Category : std::uint8_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCo,
};

inline constexpr std::array<const char*, 28> kCategoryNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

/// Both ends belong to the range.
struct CategoryRange {
  char32_t first;
  char32_t last;
  Category category;
};

struct CodePointRange {
  char32_t first;
  char32_t last;
};

/// `first` followed by `second` composes to `composed`.
struct Composition {
  char32_t first;
  char32_t second;
  char32_t composed;
};

struct LowercaseMapping {
  char32_t point;
  char32_t lower[3];
};

/// Characters of one script; scripts are numbered as they come.
struct ScriptRange {
  char32_t first;
  char32_t last;
  std::uint8_t script;
};

// Clang would have braces around the three characters of each mapping.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-braces"
#include "text/unicode/tables.inc"
#pragma GCC diagnostic pop

}  // namespace espalier::text::tables

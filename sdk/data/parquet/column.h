#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "espalier/base/value.h"
#include "thrift.h"

namespace espalier::parquet {

/// What a leaf of the schema says about its column.
struct ColumnType {
  std::int64_t physical = 0;  ///< code of parquet.thrift
  std::int64_t length = 0;    ///< bytes, of fixed ones
  int max_definition = 0;     ///< definition level of a value that is there
  int max_repetition = 0;
};

/// A column of a row group: one entry a value or place without one. Dremel levels (Melnik et al.
/// 2010, "Dremel: interactive analysis of web-scale datasets") tell lists and missing parts apart.
struct Column {
  std::vector<std::uint32_t> definition;
  std::vector<std::uint32_t> repetition;
  std::vector<Value> values;  ///< of the entries whose definition level is the highest
};

/// Reads a column chunk. `file` is the whole file, `chunk` its ColumnMetaData. Throws
/// Error(kBadInput).
Column read_column(std::string_view file, const ThriftValue& chunk, const ColumnType& type);

}  // namespace espalier::parquet

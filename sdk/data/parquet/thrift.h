#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::parquet {

/// A value of Thrift's compact protocol, by which Parquet describes itself: a tree without names,
/// fields by their numbers in parquet.thrift. Views point into the bytes that were read.
struct ThriftValue {
  std::int64_t number = 0;  ///< integers and booleans
  std::string_view bytes;
  std::vector<ThriftValue> list;
  std::map<std::int32_t, ThriftValue> fields;

  /// An empty value where there is none.
  const ThriftValue& field(std::int32_t id) const;
  bool has(std::int32_t id) const { return fields.contains(id); }
};

/// Reads a struct at the front of `bytes` and takes it off. Throws Error(kBadInput), without place,
/// where bytes are broken.
ThriftValue read_thrift(std::string_view& bytes);

/// Error(kBadInput) that says what is wrong with a Parquet file; the reader adds the path.
[[noreturn]] void refuse(const std::string& what, const std::string& found = {},
                         const std::string& expected = {});

}  // namespace espalier::parquet

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/file.h"
#include "espalier/base/gguf_types.h"

namespace espalier {

/// Types of metadata values, with the numbers of the format.
enum class GgufType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// A metadata value. Text and arrays are views of the mapped file: they live as long as the
/// GgufFile. The accessors throw Error(kBadInput), naming the key and the file, when the value is
/// of another kind or does not fit.
class ESPALIER_API GgufValue {
 public:
  GgufType type() const { return type_; }
  bool is_string() const { return type_ == GgufType::kString; }
  bool is_array() const { return type_ == GgufType::kArray; }
  bool is_integer() const;
  bool is_number() const { return is_integer() || is_float(type_); }
  /// Of an array.
  GgufType item_type() const { return item_type_; }
  /// Items of an array.
  std::uint64_t size() const { return count_; }

  bool as_bool() const;
  std::int64_t as_int() const;
  /// Also from an integer.
  double as_float() const;
  std::string_view as_string() const;
  const std::vector<std::string_view>& as_strings() const;
  std::vector<std::int64_t> as_ints() const;
  std::vector<double> as_floats() const;
  const std::vector<GgufValue>& as_arrays() const;

 private:
  friend class GgufParser;

  static bool is_float(GgufType type) { return type == GgufType::kF32 || type == GgufType::kF64; }
  [[noreturn]] void throw_kind(std::string_view expected) const;
  GgufValue item(std::uint64_t index) const;

  GgufType type_ = GgufType::kU8;
  GgufType item_type_ = GgufType::kU8;
  std::uint64_t count_ = 0;
  std::span<const std::byte> raw_;  ///< the number, or all numbers of an array
  std::string_view text_;
  std::vector<std::string_view> strings_;
  std::vector<GgufValue> arrays_;
  /// File and key, for errors; shared, since a hostile file may have millions of nested arrays.
  std::shared_ptr<const std::string> where_;
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  /// Row-major, slowest dimension first (the file has them the other way round).
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< of its bytes in the file
  std::uint64_t end = 0;

  std::int64_t element_count() const {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return count;
  }
};

/// A GGUF file of version 2 or 3, little endian, opened and checked: all lengths and counts against
/// the size of the file, no repeated keys or names, known types, whole blocks, aligned tensors
/// inside of the file that do not overlap. Anything else is an Error(kBadInput), or
/// Error(kUnsupported) for other versions and byte orders. Immutable.
class ESPALIER_API GgufFile {
 public:
  explicit GgufFile(std::string path);

  const std::string& path() const { return file_.path(); }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }

  /// In the order of the file.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }
  /// nullptr when there is no such key.
  const GgufValue* find(std::string_view key) const;
  /// Error(kBadInput) when there is no such key.
  const GgufValue& at(std::string_view key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;
  /// The stored bytes of a tensor; valid while this object lives.
  std::span<const std::byte> data(const GgufTensor& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
  }

 private:
  friend class GgufParser;

  MappedFile file_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::map<std::string, std::size_t, std::less<>> keys_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> names_;
};

}  // namespace espalier

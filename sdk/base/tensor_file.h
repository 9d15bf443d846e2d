#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/dtype.h"
#include "espalier/base/file.h"

namespace espalier {

/// One tensor of a file of weights: row-major, little endian.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  /// Bytes [begin, end) of the file's data section; of a tensor that does not lie in the file as it
  /// is read, [0, size).
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t size_bytes() const { return end - begin; }
  std::int64_t element_count() const {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return count;
  }
};

/// Half-open range of one dimension.
struct DimensionRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Texts by name that a file holds beside its tensors (`__metadata__` of safetensors).
using TensorMetadata = std::map<std::string, std::string>;

/// A file of named tensors that was opened and checked; what its formats have in common. Data is
/// read when asked for. Immutable; all methods may be called from several threads at once.
///
/// A format derives from it: the constructor reads the directory of `file_`, sets `data_begin_`,
/// calls add_tensor() for each tensor that lies in the file, and index_tensors() at the end.
class ESPALIER_API TensorFile {
 public:
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;
  virtual ~TensorFile();

  const std::string& path() const { return file_.path(); }
  /// In the order of their data where that says something, else in that of the file.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  /// nullptr when there is no such tensor.
  const TensorInfo* find(std::string_view name) const;
  /// Error(kBadInput) with the nearest names when there is no such tensor.
  const TensorInfo& at(std::string_view name) const;
  const TensorMetadata& metadata() const { return metadata_; }

  /// The tensor's bytes in memory; valid while this object lives. Not aligned when the file was
  /// written by another serializer.
  std::span<const std::byte> data(std::string_view name) const;
  /// `size` of the tensor's bytes from `offset` on, likewise.
  std::span<const std::byte> data(std::string_view name, std::uint64_t offset,
                                  std::uint64_t size) const;
  /// Fills `out` with the tensor's bytes from `offset` on, by positional reads.
  void read_bytes(std::string_view name, std::uint64_t offset, std::span<std::byte> out) const;
  /// Fills `out` with the part of the tensor that lies in `ranges`, one for each dimension, packed
  /// in row-major order. Reads that part and no other byte, in the longest contiguous pieces there
  /// are. Types below 8 bits: only whole bytes.
  void read_slice(std::string_view name, std::span<const DimensionRange> ranges,
                  std::span<std::byte> out) const;

  /// Bytes of tensor data that the methods above were asked for so far.
  std::uint64_t bytes_requested() const { return bytes_requested_.load(std::memory_order_relaxed); }

 protected:
  /// Throws Error(kIo) for a file that can't be read.
  explicit TensorFile(std::string path) : file_(std::move(path)) {}
  /// Appends to `tensors_` what lies in the file at `data_begin_` + begin. Throws Error(kBadInput)
  /// that names file and tensor when its bytes don't fit dtype and shape, or pass the end.
  void add_tensor(TensorInfo tensor);
  /// Makes tensors findable; once `tensors_` is complete. Throws Error(kBadInput) for a name that
  /// comes twice.
  void index_tensors();
  /// All bytes of a tensor whose elements don't stand in the file in row-major order; none for the
  /// others, which lie at `data_begin_` + begin.
  virtual std::optional<std::span<const std::byte>> gathered(const TensorInfo& tensor) const;

  MappedFile file_;
  std::uint64_t data_begin_ = 0;
  std::vector<TensorInfo> tensors_;
  TensorMetadata metadata_;

 private:
  void count_request(const TensorInfo& tensor, std::uint64_t offset, std::uint64_t size) const;

  std::map<std::string, std::size_t, std::less<>> index_;
  mutable std::atomic<std::uint64_t> bytes_requested_{0};
};

/// Bytes that `shape` takes in `dtype`. Error(kBadInput), naming `where`, when a size is negative,
/// the product overflows, or elements of less than 8 bits do not fill whole bytes.
ESPALIER_API std::uint64_t tensor_size_bytes(DType dtype, std::span<const std::int64_t> shape,
                                             const std::string& where);

}  // namespace espalier

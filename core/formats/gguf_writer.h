#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/gguf.h"
#include "espalier/base/safetensors_writer.h"

namespace espalier::formats {

/// A tensor to be written: `write` hands the stored bytes to the sink piece by piece, exactly as
/// many as type and shape need. The shape is row-major, slowest dimension first.
struct GgufTensorSource {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<std::int64_t> shape;
  std::function<void(const TensorSink&)> write;
};

/// Metadata of a GGUF file, encoded as it is added. Keys have to differ.
class GgufMetadata {
 public:
  void add_uint32(std::string_view key, std::int64_t value);
  void add_float(std::string_view key, double value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, const std::vector<std::string>& values);
  void add_ints(std::string_view key, const std::vector<std::int32_t>& values);
  void add_floats(std::string_view key, const std::vector<float>& values);
  void add_bools(std::string_view key, const std::vector<bool>& values);

  std::uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(std::string_view key, GgufType type);
  void begin_array(std::string_view key, GgufType items, std::size_t size);

  std::uint64_t count_ = 0;
  std::string bytes_;
};

/// Writes a GGUF file of version 3, little endian, tensors in the order given, each aligned to 32
/// bytes. The file appears at `path` whole or not at all. Throws Error(kIo), and Error(kInternal)
/// for a source that gives too few or too many bytes.
void write_gguf(const std::string& path, const GgufMetadata& metadata,
                const std::vector<GgufTensorSource>& tensors);

}  // namespace espalier::formats

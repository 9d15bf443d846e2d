#include "formats/gguf_writer.h"

#include <bit>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"

namespace espalier::formats {
namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::uint32_t kVersion = 3;

template <class Number>
void append_number(std::string& bytes, Number value) {
  static_assert(std::endian::native == std::endian::little, "the format is little endian");
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& bytes, std::string_view text) {
  append_number<std::uint64_t>(bytes, text.size());
  bytes += text;
}

std::uint64_t padded(std::uint64_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

std::uint64_t stored_size(const GgufTensorSource& tensor) {
  const GgmlTypeInfo& info = ggml_type_info(tensor.type);
  std::int64_t elements = 1;
  for (const std::int64_t size : tensor.shape) elements *= size;
  const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  ESPALIER_ASSERT(row % info.block_elements == 0,
                  "the rows of tensor '" + tensor.name + "' are not whole blocks");
  return static_cast<std::uint64_t>(elements / info.block_elements * info.block_bytes);
}

/// Everything before the data of the first tensor.
std::string head(const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors) {
  std::string bytes = "GGUF";
  append_number<std::uint32_t>(bytes, kVersion);
  append_number<std::uint64_t>(bytes, tensors.size());
  append_number<std::uint64_t>(bytes, metadata.count());
  bytes += metadata.bytes();
  std::uint64_t offset = 0;
  for (const GgufTensorSource& tensor : tensors) {
    append_text(bytes, tensor.name);
    append_number<std::uint32_t>(bytes, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
      append_number<std::uint64_t>(bytes, static_cast<std::uint64_t>(*size));
    append_number<std::uint32_t>(bytes, static_cast<std::uint32_t>(tensor.type));
    append_number<std::uint64_t>(bytes, offset);
    offset += padded(stored_size(tensor));
  }
  bytes.resize(padded(bytes.size()), '\0');
  return bytes;
}

}  // namespace

void GgufMetadata::begin(std::string_view key, GgufType type) {
  ++count_;
  append_text(bytes_, key);
  append_number<std::uint32_t>(bytes_, static_cast<std::uint32_t>(type));
}

void GgufMetadata::begin_array(std::string_view key, GgufType items, std::size_t size) {
  begin(key, GgufType::kArray);
  append_number<std::uint32_t>(bytes_, static_cast<std::uint32_t>(items));
  append_number<std::uint64_t>(bytes_, size);
}

void GgufMetadata::add_uint32(std::string_view key, std::int64_t value) {
  ESPALIER_ASSERT(value >= 0 && value <= UINT32_MAX,
                  "the value of '" + std::string(key) + "' does not fit");
  begin(key, GgufType::kU32);
  append_number(bytes_, static_cast<std::uint32_t>(value));
}

void GgufMetadata::add_float(std::string_view key, double value) {
  begin(key, GgufType::kF32);
  append_number(bytes_, static_cast<float>(value));
}

void GgufMetadata::add_bool(std::string_view key, bool value) {
  begin(key, GgufType::kBool);
  append_number<std::uint8_t>(bytes_, value ? 1 : 0);
}

void GgufMetadata::add_string(std::string_view key, std::string_view value) {
  begin(key, GgufType::kString);
  append_text(bytes_, value);
}

void GgufMetadata::add_strings(std::string_view key, const std::vector<std::string>& values) {
  begin_array(key, GgufType::kString, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
}

void GgufMetadata::add_ints(std::string_view key, const std::vector<std::int32_t>& values) {
  begin_array(key, GgufType::kI32, values.size());
  for (const std::int32_t value : values) append_number(bytes_, value);
}

void GgufMetadata::add_floats(std::string_view key, const std::vector<float>& values) {
  begin_array(key, GgufType::kF32, values.size());
  for (const float value : values) append_number(bytes_, value);
}

void GgufMetadata::add_bools(std::string_view key, const std::vector<bool>& values) {
  begin_array(key, GgufType::kBool, values.size());
  for (const bool value : values) append_number<std::uint8_t>(bytes_, value ? 1 : 0);
}

void write_gguf(const std::string& path, const GgufMetadata& metadata,
                const std::vector<GgufTensorSource>& tensors) {
  AtomicFile file(path);
  file.append(head(metadata, tensors));
  const std::string zeros(kAlignment, '\0');
  for (const GgufTensorSource& tensor : tensors) {
    const std::uint64_t end = file.size() + stored_size(tensor);
    tensor.write([&](std::span<const std::byte> bytes) { file.append(bytes); });
    ESPALIER_ASSERT(file.size() == end,
                    "the source of tensor '" + tensor.name + "' gave another number of bytes");
    file.append(std::string_view(zeros).substr(0, padded(end) - end));
  }
  file.commit();
}

}  // namespace espalier::formats

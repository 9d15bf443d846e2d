#include "formats/gguf_weights.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/gguf_dequantize.h"
#include "espalier/base/half_precision.h"
#include "formats/float_encoding.h"

namespace espalier::formats {
namespace {

/// Elements that are dequantised at once.
constexpr std::int64_t kChunkElements = std::int64_t{1} << 18;

/// Reads rows of a tensor in the order of Hugging Face. A vector is one row for each element when
/// its heads are interleaved, else one row.
class RowReader {
 public:
  RowReader(const GgufFile& file, const TensorMapping& mapping)
      : mapping_(mapping),
        info_(ggml_type_info(mapping.source->type)),
        data_(file.data(*mapping.source)) {
    const GgufTensor& source = *mapping.source;
    const std::int64_t elements = source.element_count();
    const bool scattered_vector = source.shape.size() == 1 && mapping.interleaved_heads > 0;
    columns_ = source.shape.empty() ? 1 : (scattered_vector ? 1 : source.shape.back());
    rows_ = elements / columns_;
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }

  /// Rows [begin, begin + out.size() / columns) of the result.
  void read(std::int64_t begin, std::span<float> out) const {
    const std::int64_t count = std::ssize(out) / columns_;
    if (mapping_.interleaved_heads == 0) {
      read_stored(begin, count, out);
      return;
    }
    const std::int64_t head_rows = rows_ / mapping_.interleaved_heads;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t head = (begin + i) / head_rows;
      const std::int64_t row = (begin + i) % head_rows;
      const std::int64_t half = row / (head_rows / 2);
      const std::int64_t stored = head * head_rows + row % (head_rows / 2) * 2 + half;
      read_stored(
          stored, 1,
          out.subspan(static_cast<std::size_t>(i * columns_), static_cast<std::size_t>(columns_)));
    }
  }

 private:
  void read_stored(std::int64_t begin, std::int64_t count, std::span<float> out) const {
    const auto row_bytes =
        static_cast<std::size_t>(columns_ / info_.block_elements * info_.block_bytes);
    dequantize(info_.type,
               data_.subspan(static_cast<std::size_t>(begin) * row_bytes,
                             static_cast<std::size_t>(count) * row_bytes),
               out);
  }

  const TensorMapping& mapping_;
  const GgmlTypeInfo& info_;
  std::span<const std::byte> data_;
  std::int64_t columns_ = 1;
  std::int64_t rows_ = 0;
};

/// Calls `visit` with all values of the tensor, in order, a chunk of whole rows at a time.
template <class Visit>
void for_each_chunk(const GgufFile& file, const TensorMapping& mapping, const Visit& visit) {
  const RowReader reader(file, mapping);
  const std::int64_t rows =
      std::clamp<std::int64_t>(kChunkElements / reader.columns(), 1, reader.rows());
  std::vector<float> buffer(static_cast<std::size_t>(rows * reader.columns()));
  for (std::int64_t row = 0; row < reader.rows(); row += rows) {
    const std::int64_t count = std::min(rows, reader.rows() - row);
    const std::span<float> values =
        std::span(buffer).first(static_cast<std::size_t>(count * reader.columns()));
    reader.read(row, values);
    visit(values);
  }
}

std::uint16_t narrow(float value, DType dtype) {
  return dtype == DType::kF16 ? float_to_half(value) : float_to_bfloat16(value);
}

float widen(std::uint16_t value, DType dtype) {
  return dtype == DType::kF16 ? half_to_float(value) : bfloat16_to_float(value);
}

bool holds_exactly(const GgufFile& file, const TensorMapping& mapping, DType dtype) {
  const GgmlType own = dtype == DType::kF16 ? GgmlType::kF16 : GgmlType::kBF16;
  if (mapping.source->type == own) return true;
  bool exact = true;
  for_each_chunk(file, mapping, [&](std::span<const float> values) {
    exact = exact && std::all_of(values.begin(), values.end(), [&](float value) {
              return widen(narrow(value, dtype), dtype) == value;
            });
  });
  return exact;
}

}  // namespace

DType exact_dtype(const GgufFile& file, const std::vector<TensorMapping>& tensors) {
  const auto is_plain = [](const TensorMapping& mapping) {
    const GgmlType type = mapping.source->type;
    return type == GgmlType::kF32 || type == GgmlType::kF16 || type == GgmlType::kBF16;
  };
  if (!std::all_of(tensors.begin(), tensors.end(), is_plain)) return DType::kF32;
  for (const DType candidate : {DType::kBF16, DType::kF16}) {
    if (std::all_of(tensors.begin(), tensors.end(), [&](const TensorMapping& mapping) {
          return holds_exactly(file, mapping, candidate);
        })) {
      return candidate;
    }
  }
  return DType::kF32;
}

std::vector<TensorSource> tensor_sources(const GgufFile& file,
                                         const std::vector<TensorMapping>& tensors, DType dtype) {
  std::vector<TensorSource> sources;
  sources.reserve(tensors.size());
  for (const TensorMapping& mapping : tensors) {
    sources.push_back({.name = mapping.name,
                       .dtype = dtype,
                       .shape = mapping.source->shape,
                       .write = [&file, &mapping, dtype](const TensorSink& sink) {
                         for_each_chunk(file, mapping, [&](std::span<const float> values) {
                           encode_floats(values, dtype, mapping.name, sink);
                         });
                       }});
  }
  return sources;
}

}  // namespace espalier::formats

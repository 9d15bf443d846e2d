#include "espalier/io/parameter_io.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>

#include "espalier/base/error.h"
#include "espalier/io/tensor_io.h"
#include "espalier/ops/parallel_for.h"

namespace espalier {
namespace {

/// A run of wanted indices inside one part: where it is on disk, and where it goes in the result.
struct Piece {
  DimensionRange disk;
  std::int64_t destination = 0;
  std::int64_t length() const { return disk.end - disk.begin; }
};

ParameterSlice whole(const ParameterSpec& spec) {
  ParameterSlice slice;
  for (const std::int64_t size : spec.shape()) slice.push_back({{0, size}});
  return slice;
}

std::int64_t total_length(const std::vector<DimensionRange>& ranges) {
  std::int64_t total = 0;
  for (const DimensionRange& range : ranges) total += range.end - range.begin;
  return total;
}

/// Cuts the wanted ranges of parameter dimension `d` with the part's box. `disk_start` is the disk
/// index of the box's first row.
std::vector<Piece> pieces_of(const std::vector<DimensionRange>& wanted, std::int64_t box_begin,
                             std::int64_t box_extent, std::int64_t disk_start) {
  std::vector<Piece> pieces;
  std::int64_t position = 0;
  for (const DimensionRange& range : wanted) {
    const std::int64_t begin = std::max(range.begin, box_begin);
    const std::int64_t end = std::min(range.end, box_begin + box_extent);
    if (begin < end) {
      pieces.push_back({{begin - box_begin + disk_start, end - box_begin + disk_start},
                        position + begin - range.begin});
    }
    position += range.end - range.begin;
  }
  return pieces;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t size : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

void check_disk_shape(const TensorInfo& info, const DiskTensor& part,
                      const CheckpointReader& checkpoint) {
  // A split tensor is larger than the box; the other parameters check their share of it.
  const std::vector<std::int64_t> expected = disk_shape(part);
  bool fits = info.shape.size() == expected.size();
  for (std::size_t j = 0; fits && j < expected.size(); ++j) {
    const std::int64_t start = part.disk_offset.empty() ? 0 : part.disk_offset[j];
    fits = part.disk_offset.empty() ? info.shape[j] == expected[j]
                                    : info.shape[j] >= start + expected[j];
  }
  if (fits) return;
  throw_bad_input("tensor '" + part.name + "' has another shape than the config says",
                  shape_text(info.shape), shape_text(expected), checkpoint.path(),
                  "config.json and weights do not belong together");
}

/// Reads a whole tensor on all threads: what costs is the first touch of the memory.
void read_whole(const TensorFile& file, const std::string& name, const at::Tensor& into) {
  constexpr std::int64_t kBytesAThread = 1 << 20;
  auto* const bytes = static_cast<std::byte*>(into.data_ptr());
  ops::parallel_for(0, static_cast<std::int64_t>(into.nbytes()), kBytesAThread,
                    [&](std::int64_t begin, std::int64_t end) {
                      file.read_bytes(name, static_cast<std::uint64_t>(begin),
                                      {bytes + begin, static_cast<std::size_t>(end - begin)});
                    });
}

/// Reads one combination of pieces and puts it into its place of `result`.
void read_box(const TensorFile& file, const DiskTensor& part, const std::vector<Piece>& pieces,
              at::Tensor& result) {
  std::vector<DimensionRange> ranges;
  std::vector<std::int64_t> shape;
  for (const std::int64_t dimension : part.dimensions) {
    ranges.push_back(pieces[static_cast<std::size_t>(dimension)].disk);
    shape.push_back(ranges.back().end - ranges.back().begin);
  }
  at::Tensor box =
      at::empty(shape, at::TensorOptions().dtype(scalar_type_of(file.at(part.name).dtype)));
  if (shape == file.at(part.name).shape)
    read_whole(file, part.name, box);
  else
    file.read_slice(part.name, ranges, {static_cast<std::byte*>(box.data_ptr()), box.nbytes()});

  // Disk order -> parameter order, with extent 1 where the disk tensor has no dimension.
  std::vector<std::int64_t> order(pieces.size(), -1);
  for (std::size_t j = 0; j < part.dimensions.size(); ++j) {
    order[static_cast<std::size_t>(part.dimensions[j])] = static_cast<std::int64_t>(j);
  }
  for (std::size_t d = 0; d < order.size(); ++d) {
    if (order[d] >= 0) continue;
    order[d] = box.dim();
    box = box.unsqueeze(-1);
  }
  at::Tensor target = result;
  for (std::size_t d = 0; d < pieces.size(); ++d) {
    target = target.narrow(static_cast<std::int64_t>(d), pieces[d].destination, pieces[d].length());
  }
  target.copy_(box.permute(order));
}

/// True when the part is the whole parameter as it lies on disk, so that it can be read straight
/// into its place.
bool is_direct(const DiskTensor& part, const ParameterSlice& slice, const TensorInfo& info,
               const at::Tensor& result) {
  for (std::size_t j = 0; j < part.dimensions.size(); ++j) {
    if (part.dimensions[j] != static_cast<std::int64_t>(j)) return false;
  }
  for (std::size_t d = 0; d < slice.size(); ++d) {
    if (slice[d].size() != 1 || slice[d][0].begin != 0 || slice[d][0].end != part.extent[d])
      return false;
  }
  return part.disk_offset.empty() && part.dimensions.size() == part.extent.size() &&
         info.shape == part.extent && scalar_type_of(info.dtype) == result.scalar_type();
}

}  // namespace

std::vector<std::int64_t> disk_shape(const DiskTensor& part) {
  std::vector<std::int64_t> shape;
  for (const std::int64_t dimension : part.dimensions)
    shape.push_back(part.extent[static_cast<std::size_t>(dimension)]);
  return shape;
}

at::Tensor load_parameter(const CheckpointReader& checkpoint, const ParameterSpec& spec,
                          const DiskMapping& mapping, at::ScalarType dtype,
                          const ParameterSlice& slice) {
  const ParameterSlice wanted = slice.empty() ? whole(spec) : slice;
  std::vector<std::int64_t> shape;
  for (const auto& ranges : wanted) shape.push_back(total_length(ranges));
  at::Tensor result = at::empty(shape, at::TensorOptions().dtype(dtype));

  for (const DiskTensor& part : mapping.parts) {
    const TensorFile& file = checkpoint.file_of(part.name);
    const TensorInfo& info = file.at(part.name);
    check_disk_shape(info, part, checkpoint);
    if (mapping.parts.size() == 1 && is_direct(part, wanted, info, result)) {
      read_whole(file, part.name, result);
      continue;
    }
    std::vector<std::vector<Piece>> pieces(wanted.size());
    for (std::size_t d = 0; d < wanted.size(); ++d) {
      const auto on_disk =
          std::find(part.dimensions.begin(), part.dimensions.end(), static_cast<std::int64_t>(d));
      const bool stored = on_disk != part.dimensions.end() && !part.disk_offset.empty();
      const std::int64_t start =
          stored ? part.disk_offset[static_cast<std::size_t>(on_disk - part.dimensions.begin())]
                 : 0;
      pieces[d] = pieces_of(wanted[d], part.offset[d], part.extent[d], start);
    }
    std::vector<Piece> chosen(wanted.size());
    const std::function<void(std::size_t)> visit = [&](std::size_t d) {
      if (d == wanted.size()) return read_box(file, part, chosen, result);
      for (const Piece& piece : pieces[d]) {
        chosen[d] = piece;
        visit(d + 1);
      }
    };
    visit(0);
  }
  return result;
}

std::vector<std::pair<std::string, at::Tensor>> to_disk_layout(const DiskMapping& mapping,
                                                               const at::Tensor& value) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const DiskTensor& part : mapping.parts) {
    if (!part.disk_offset.empty()) {
      throw Error(Problem{ErrorCode::kUnsupported,
                          "tensor '" + part.name + "' is shared by several parameters",
                          {},
                          {},
                          mapping.parameter,
                          {}});
    }
    at::Tensor box = value;
    for (std::size_t d = 0; d < part.extent.size(); ++d) {
      box = box.narrow(static_cast<std::int64_t>(d), part.offset[d], part.extent[d]);
    }
    std::vector<std::int64_t> order = part.dimensions;
    for (std::int64_t d = 0; d < box.dim(); ++d) {  // dimensions of extent 1 go to the end and away
      if (std::find(order.begin(), order.end(), d) == order.end()) order.push_back(d);
    }
    tensors.emplace_back(part.name, box.permute(order).reshape(disk_shape(part)));
  }
  return tensors;
}

}  // namespace espalier

#include "espalier/base/tensor_file.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier {
namespace {

/// Elements of the slice, whose ranges have to lie inside of the tensor.
std::uint64_t slice_elements(const TensorInfo& tensor, std::span<const DimensionRange> ranges) {
  ESPALIER_ASSERT(ranges.size() == tensor.shape.size(),
                  "a slice needs one range for each dimension");
  std::uint64_t count = 1;
  for (std::size_t d = 0; d < ranges.size(); ++d) {
    ESPALIER_ASSERT(0 <= ranges[d].begin && ranges[d].begin <= ranges[d].end &&
                        ranges[d].end <= tensor.shape[d],
                    "a slice lies outside of tensor '" + tensor.name + "'");
    count *= static_cast<std::uint64_t>(ranges[d].end - ranges[d].begin);
  }
  return count;
}

/// Calls `visit(first element, count)` for each contiguous run of the slice, in row-major order.
template <class Visit>
void for_each_run(std::span<const std::int64_t> shape, std::span<const DimensionRange> ranges,
                  const Visit& visit) {
  for (const DimensionRange& range : ranges) {
    if (range.begin == range.end) return;
  }
  // Trailing dimensions that are taken whole join the run of the last one that is cut.
  std::size_t cut = shape.size();
  std::int64_t inner = 1;  // elements of one index of dimension cut - 1
  while (cut > 0 && ranges[cut - 1].begin == 0 && ranges[cut - 1].end == shape[cut - 1])
    inner *= shape[--cut];
  const std::int64_t run = cut == 0 ? inner : inner * (ranges[cut - 1].end - ranges[cut - 1].begin);
  std::vector<std::int64_t> position;
  for (std::size_t d = 0; d < cut; ++d) position.push_back(ranges[d].begin);
  while (true) {
    std::int64_t first = 0;
    for (std::size_t d = 0; d < cut; ++d) first = first * shape[d] + position[d];
    visit(static_cast<std::uint64_t>(first * inner), static_cast<std::uint64_t>(run));
    // The dimension of the run itself does not step; the ones before it count like an odometer.
    std::size_t d = cut > 0 ? cut - 1 : 0;
    while (d > 0 && ++position[d - 1] == ranges[d - 1].end) {
      position[d - 1] = ranges[d - 1].begin;
      --d;
    }
    if (d == 0) return;
  }
}

}  // namespace

std::uint64_t tensor_size_bytes(DType dtype, std::span<const std::int64_t> shape,
                                const std::string& where) {
  std::int64_t bits = 1;
  bool overflow = false;
  for (const std::int64_t size : shape) {
    if (size < 0) {
      throw_bad_input("a size in the shape is negative", std::to_string(size), "0 or more", where);
    }
    overflow |= __builtin_mul_overflow(bits, size, &bits);
  }
  overflow |= __builtin_mul_overflow(bits, dtype_bits(dtype), &bits);
  if (overflow) {
    throw_bad_input("the product of the shape is too large", {}, "less than 2^63 bits in all",
                    where);
  }
  if (bits % 8 != 0) {
    throw_bad_input("the elements do not fill whole bytes", std::to_string(bits) + " bits",
                    "a multiple of 8 bits", where);
  }
  return static_cast<std::uint64_t>(bits) / 8;
}

TensorFile::~TensorFile() = default;

void TensorFile::add_tensor(TensorInfo tensor) {
  const std::string where = path() + ", tensor '" + tensor.name + "'";
  const std::uint64_t needed = tensor_size_bytes(tensor.dtype, tensor.shape, where);
  if (tensor.end < tensor.begin || tensor.size_bytes() != needed) {
    throw_bad_input("the bytes of the tensor do not fit its dtype and shape",
                    std::to_string(tensor.begin) + " to " + std::to_string(tensor.end),
                    std::to_string(needed) + " bytes", where);
  }
  const std::uint64_t size = file_.bytes().size();
  if (data_begin_ > size || tensor.end > size - data_begin_) {
    throw_bad_input("the file ends before the data of its tensors", std::to_string(size) + " bytes",
                    std::to_string(data_begin_ + tensor.end) + " bytes at least", where,
                    "the file is damaged or was not copied completely: fetch or write it again");
  }
  tensors_.push_back(std::move(tensor));
}

void TensorFile::index_tensors() {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (index_.emplace(tensors_[i].name, i).second) continue;
    throw_bad_input("a tensor comes twice", tensors_[i].name, "each name once", path());
  }
}

std::optional<std::span<const std::byte>> TensorFile::gathered(const TensorInfo& /*tensor*/) const {
  return std::nullopt;
}

const TensorInfo* TensorFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorInfo& TensorFile::at(std::string_view name) const {
  if (const TensorInfo* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const TensorInfo& tensor : tensors_) names.push_back(tensor.name);
  throw_bad_input("there is no tensor '" + std::string(name) + "' in the file", {},
                  std::to_string(names.size()) + " other tensors are there", path(),
                  did_you_mean(name, names));
}

void TensorFile::count_request(const TensorInfo& tensor, std::uint64_t offset,
                               std::uint64_t size) const {
  ESPALIER_ASSERT(offset <= tensor.size_bytes() && size <= tensor.size_bytes() - offset,
                  "a read lies outside of tensor '" + tensor.name + "'");
  bytes_requested_.fetch_add(size, std::memory_order_relaxed);
}

std::span<const std::byte> TensorFile::data(std::string_view name) const {
  return data(name, 0, at(name).size_bytes());
}

std::span<const std::byte> TensorFile::data(std::string_view name, std::uint64_t offset,
                                            std::uint64_t size) const {
  const TensorInfo& tensor = at(name);
  count_request(tensor, offset, size);
  if (const auto all = gathered(tensor)) return all->subspan(offset, size);
  return file_.bytes().subspan(data_begin_ + tensor.begin + offset, size);
}

void TensorFile::read_bytes(std::string_view name, std::uint64_t offset,
                            std::span<std::byte> out) const {
  const TensorInfo& tensor = at(name);
  count_request(tensor, offset, out.size());
  if (const auto all = gathered(tensor)) {
    std::copy_n(all->begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
  } else {
    file_.read_at(data_begin_ + tensor.begin + offset, out);
  }
}

void TensorFile::read_slice(std::string_view name, std::span<const DimensionRange> ranges,
                            std::span<std::byte> out) const {
  const TensorInfo& tensor = at(name);
  const auto bits = static_cast<std::uint64_t>(dtype_bits(tensor.dtype));
  ESPALIER_ASSERT(slice_elements(tensor, ranges) * bits == out.size() * 8,
                  "the buffer does not fit the slice");
  for_each_run(tensor.shape, ranges, [&](std::uint64_t first, std::uint64_t count) {
    ESPALIER_ASSERT(first * bits % 8 == 0 && count * bits % 8 == 0,
                    "a slice of '" + tensor.name + "' cuts a byte");
    const std::uint64_t run_bytes = count * bits / 8;
    read_bytes(name, first * bits / 8, out.first(run_bytes));
    out = out.subspan(run_bytes);
  });
}

}  // namespace espalier

#include "espalier/base/safetensors.h"

#include <algorithm>
#include <tuple>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/base/value.h"

namespace espalier {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
/// The format's own limit.
constexpr std::uint64_t kMaximumHeaderBytes = 100'000'000;
constexpr const char* kFetchAgain =
    "the file is damaged or was not downloaded completely: fetch or write it again";

std::string in_tensor(const std::string& file, std::string_view name) {
  return file + ", tensor '" + std::string(name) + "'";
}

std::uint64_t little_endian_64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 8; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

std::int64_t read_count(const Value& value, std::string_view what, const std::string& where) {
  if (!value.is_int() || value.as_int() < 0) {
    throw_bad_input(std::string(what) + " is not a non-negative integer", dump_json(value),
                    "an integer from 0 to 9223372036854775807", where);
  }
  return value.as_int();
}

const Value& field(const Value& entry, std::string_view key, const std::string& where) {
  const Value* value = entry.find(key);
  if (value == nullptr) {
    throw_bad_input("the header entry has no '" + std::string(key) + "'", dump_json(entry),
                    "dtype, shape and data_offsets", where);
  }
  return *value;
}

DType read_dtype(const Value& value, const std::string& where) {
  const std::optional<DType> dtype =
      value.is_string() ? dtype_from_name(value.as_string()) : std::nullopt;
  if (dtype) return *dtype;
  std::vector<std::string> names;
  names.reserve(kDTypeCount);
  for (int i = 0; i < kDTypeCount; ++i) names.emplace_back(dtype_name(static_cast<DType>(i)));
  throw_bad_input("unknown dtype", dump_json(value), "one of " + join_names(names), where);
}

TensorInfo read_tensor(const std::string& name, const Value& entry, const std::string& where) {
  if (!entry.is_table()) {
    throw_bad_input("the header entry is not an object", std::string(type_phrase(entry.type())),
                    "dtype, shape and data_offsets", where);
  }
  TensorInfo tensor;
  tensor.name = name;
  tensor.dtype = read_dtype(field(entry, "dtype", where), where);
  const Value& shape = field(entry, "shape", where);
  if (!shape.is_array())
    throw_bad_input("the shape is not a list", dump_json(shape), "a list of sizes", where);
  for (const Value& size : shape.as_array())
    tensor.shape.push_back(read_count(size, "a size in the shape", where));
  const Value& offsets = field(entry, "data_offsets", where);
  if (!offsets.is_array() || offsets.as_array().size() != 2)
    throw_bad_input("data_offsets is not a pair", dump_json(offsets), "[begin, end]", where);
  tensor.begin = static_cast<std::uint64_t>(read_count(offsets.as_array()[0], "an offset", where));
  tensor.end = static_cast<std::uint64_t>(read_count(offsets.as_array()[1], "an offset", where));
  if (tensor.end < tensor.begin)
    throw_bad_input("data_offsets end before they begin", dump_json(offsets), "begin <= end",
                    where);
  const std::uint64_t needed = tensor_size_bytes(tensor.dtype, tensor.shape, where);
  if (needed != tensor.size_bytes()) {
    throw_bad_input("dtype and shape do not fit data_offsets",
                    std::to_string(tensor.size_bytes()) + " bytes at " + dump_json(offsets),
                    std::to_string(needed) + " bytes for " + std::string(dtype_name(tensor.dtype)) +
                        " " + dump_json(shape),
                    where);
  }
  return tensor;
}

TensorMetadata read_metadata(const Value& entry, const std::string& file) {
  TensorMetadata metadata;
  if (entry.is_null()) return metadata;
  if (!entry.is_table()) {
    throw_bad_input("__metadata__ is not an object", std::string(type_phrase(entry.type())),
                    "strings by name", file);
  }
  for (const auto& [key, value] : entry.as_table()) {
    if (!value.is_string()) {
      throw_bad_input("a value in __metadata__ is not a string",
                      "\"" + key + "\": " + dump_json(value), "a string", file);
    }
    metadata.emplace(key, value.as_string());
  }
  return metadata;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::string path) : TensorFile(std::move(path)) {
  read_header();
  check_coverage();
  index_tensors();
}

void SafetensorsFile::read_header() {
  const std::uint64_t file_bytes = file_.bytes().size();
  if (file_bytes < kLengthBytes) {
    throw_bad_input("this is no safetensors file: it is too short for the length of the header",
                    std::to_string(file_bytes) + " bytes", "at least 8 bytes", path(), kFetchAgain);
  }
  const std::uint64_t header_bytes = little_endian_64(file_.bytes().first(kLengthBytes));
  if (header_bytes > kMaximumHeaderBytes) {
    throw_bad_input("this is no safetensors file: the stated header length is over the limit",
                    std::to_string(header_bytes) + " bytes",
                    "at most " + std::to_string(kMaximumHeaderBytes) + " bytes", path(),
                    "check that this is a safetensors file, not one of another format");
  }
  if (header_bytes > file_bytes - kLengthBytes) {
    throw_bad_input("the stated header length passes the end of the file",
                    std::to_string(header_bytes) + " bytes",
                    "at most " + std::to_string(file_bytes - kLengthBytes) + " bytes", path(),
                    kFetchAgain);
  }
  data_begin_ = kLengthBytes + header_bytes;
  const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data()) + kLengthBytes,
                              header_bytes);
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw_bad_input("the header begins with a byte order mark", "EF BB BF", "a JSON object",
                    path());
  }
  const Value header = parse_json(text, {.file = path() + " (header)"});
  if (!header.is_table()) {
    throw_bad_input("the header is not a JSON object", std::string(type_phrase(header.type())),
                    "an object", path());
  }
  for (const auto& [name, entry] : header.as_table()) {
    if (name == "__metadata__") {
      metadata_ = read_metadata(entry, path());
    } else {
      tensors_.push_back(read_tensor(name, entry, in_tensor(path(), name)));
    }
  }
}

void SafetensorsFile::check_coverage() {
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t position = 0;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.begin != position) {
      throw_bad_input(tensor.begin < position ? "the data of two tensors overlap"
                                              : "bytes of the data belong to no tensor",
                      "data_offsets begin at " + std::to_string(tensor.begin),
                      std::to_string(position) + ", where the tensor before ends",
                      in_tensor(path(), tensor.name));
    }
    position = tensor.end;
  }
  const std::uint64_t available = file_.bytes().size() - data_begin_;
  if (position != available) {
    throw_bad_input(position > available ? "the file ends before the data of its tensors"
                                         : "there are bytes after the data of the last tensor",
                    std::to_string(available) + " bytes of data",
                    std::to_string(position) + " bytes, as the header says", path(), kFetchAgain);
  }
}

}  // namespace espalier

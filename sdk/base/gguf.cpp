#include "espalier/base/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF" in memory
constexpr std::uint32_t kMaximumDimensions = 4;
/// The format's limit for keys.
constexpr std::uint64_t kMaximumNameBytes = 65535;
constexpr int kMaximumArrayDepth = 8;
constexpr const char* kFetchAgain =
    "the file is damaged or was not downloaded completely: fetch it again";
/// The least bytes that an entry takes: an empty key, a type and a byte; an empty name, the number
/// of dimensions, a type and an offset.
constexpr std::uint64_t kLeastMetadataBytes = 8 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8;

/// Bytes of a number in metadata; 0 for text and arrays.
std::uint64_t number_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool: return 1;
    case GgufType::kU16:
    case GgufType::kI16: return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32: return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64: return 8;
    case GgufType::kString:
    case GgufType::kArray: break;
  }
  return 0;
}

}  // namespace

/// Walks over the head of a file; every step is checked against the bytes that are left.
class GgufParser {
 public:
  explicit GgufParser(GgufFile& file) : file_(file), bytes_(file.file_.bytes()) {}

  void parse() {
    read_head();
    for (std::uint64_t i = 0; i < metadata_count_; ++i) read_metadata();
    if (const GgufValue* alignment = file_.find("general.alignment")) {
      const std::int64_t value = alignment->as_int();
      if (value <= 0 || value > (std::int64_t{1} << 30) ||
          !std::has_single_bit(static_cast<std::uint64_t>(value))) {
        throw_bad_input("general.alignment is not a power of two", std::to_string(value),
                        "1, 2, 4, ... up to 2^30", file_.path());
      }
      file_.alignment_ = static_cast<std::uint64_t>(value);
    }
    for (std::uint64_t i = 0; i < tensor_count_; ++i) read_tensor();
    place_tensors();
  }

 private:
  std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
    if (count > bytes_.size() - position_) {
      throw_bad_input("the file ends inside of " + std::string(what),
                      std::to_string(bytes_.size() - position_) + " bytes left",
                      std::to_string(count) + " bytes", file_.path(), kFetchAgain);
    }
    position_ += count;
    return bytes_.subspan(position_ - count, count);
  }

  template <class T>
  T number(std::string_view what) {
    static_assert(std::endian::native == std::endian::little, "the format is little endian");
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  /// A key or a tensor's name.
  std::string name(std::string_view what) {
    const std::string_view found = text(what);
    if (found.size() > kMaximumNameBytes) {
      throw_bad_input(std::string(what) + " is too long", std::to_string(found.size()) + " bytes",
                      "at most " + std::to_string(kMaximumNameBytes) + " bytes", file_.path(),
                      kFetchAgain);
    }
    return std::string(found);
  }

  std::string_view text(std::string_view what) {
    const auto taken = take(number<std::uint64_t>(what), what);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  /// A number of entries, refused when the rest of the file is too short for them.
  std::uint64_t count(std::uint64_t least_bytes, std::string_view what) {
    const auto value = number<std::uint64_t>(what);
    if (value > (bytes_.size() - position_) / least_bytes) {
      throw_bad_input("the stated " + std::string(what) + " is more than the file can hold",
                      std::to_string(value),
                      "at most " + std::to_string((bytes_.size() - position_) / least_bytes),
                      file_.path(), kFetchAgain);
    }
    return value;
  }

  void read_head() {
    if (bytes_.size() < 4 || number<std::uint32_t>("the magic number") != kMagic) {
      throw_bad_input("this is no GGUF file", {}, "a file that begins with 'GGUF'", file_.path(),
                      "check the path");
    }
    file_.version_ = number<std::uint32_t>("the version");
    if (file_.version_ != 2 && file_.version_ != 3) {
      const bool big_endian = file_.version_ == 0x02000000 || file_.version_ == 0x03000000;
      throw Error(Problem{
          .code = ErrorCode::kUnsupported,
          .what = big_endian ? "the GGUF file is big endian" : "the GGUF file has another version",
          .found = "version " + std::to_string(file_.version_),
          .expected = "version 2 or 3, little endian",
          .where = file_.path(),
          .hint = "convert it with llama.cpp's tools, or fetch a newer file"});
    }
    tensor_count_ = count(kLeastTensorBytes, "number of tensors");
    metadata_count_ = count(kLeastMetadataBytes, "number of metadata entries");
  }

  void read_metadata() {
    std::string key = name("a metadata key");
    const auto where = std::make_shared<const std::string>(file_.path() + ", key '" + key + "'");
    GgufValue value = read_value(value_type(*where), where, 0);
    if (!file_.keys_.emplace(key, file_.metadata_.size()).second)
      throw_bad_input("the metadata key '" + key + "' appears twice", {}, {}, file_.path());
    file_.metadata_.emplace_back(std::move(key), std::move(value));
  }

  GgufType value_type(const std::string& where) {
    const auto type = number<std::uint32_t>("a metadata value");
    if (type > static_cast<std::uint32_t>(GgufType::kF64)) {
      throw_bad_input("unknown type of a metadata value", std::to_string(type), "0 to 12", where,
                      kFetchAgain);
    }
    return static_cast<GgufType>(type);
  }

  GgufValue read_value(GgufType type, const std::shared_ptr<const std::string>& where, int depth) {
    GgufValue value;
    value.type_ = type;
    value.where_ = where;
    if (type == GgufType::kString) {
      value.text_ = text("a metadata value");
    } else if (type == GgufType::kArray) {
      read_array(value, depth);
    } else {
      value.raw_ = take(number_bytes(type), "a metadata value");
    }
    return value;
  }

  void read_array(GgufValue& value, int depth) {
    if (depth >= kMaximumArrayDepth) {
      throw_bad_input("arrays are nested too deep", {},
                      "at most " + std::to_string(kMaximumArrayDepth) + " levels", *value.where_);
    }
    value.item_type_ = value_type(*value.where_);
    const std::uint64_t bytes = number_bytes(value.item_type_);
    const bool is_text = value.item_type_ == GgufType::kString;
    value.count_ = count(bytes != 0 ? bytes : (is_text ? 8 : 12), "number of array items");
    if (bytes != 0) {
      value.raw_ = take(bytes * value.count_, "an array");
    } else if (is_text) {
      value.strings_.reserve(value.count_);
      for (std::uint64_t i = 0; i < value.count_; ++i)
        value.strings_.push_back(text("an array of strings"));
    } else {
      for (std::uint64_t i = 0; i < value.count_; ++i)
        value.arrays_.push_back(read_value(GgufType::kArray, value.where_, depth + 1));
    }
  }

  void read_tensor() {
    GgufTensor tensor;
    tensor.name = name("the name of a tensor");
    const std::string where = file_.path() + ", tensor '" + tensor.name + "'";
    const auto dimensions = number<std::uint32_t>("a tensor entry");
    if (dimensions > kMaximumDimensions) {
      throw_bad_input("a tensor has too many dimensions", std::to_string(dimensions),
                      "at most " + std::to_string(kMaximumDimensions), where, kFetchAgain);
    }
    std::int64_t elements = 1;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto size = number<std::uint64_t>("a tensor entry");
      std::int64_t product = 0;
      if (size == 0 || size > static_cast<std::uint64_t>(INT64_MAX) ||
          __builtin_mul_overflow(elements, static_cast<std::int64_t>(size), &product)) {
        throw_bad_input("a tensor has an impossible size", std::to_string(size),
                        "more than 0 and less than 2^63 elements in all", where, kFetchAgain);
      }
      elements = product;
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(size));
    }
    const auto type = number<std::uint32_t>("a tensor entry");
    const GgmlTypeInfo* info = find_ggml_type(type);
    if (info == nullptr) {
      throw_bad_input("a tensor has an unknown type", std::to_string(type),
                      "a type of GGUF version 3", where,
                      "the file may use a newer type than this program knows");
    }
    tensor.type = info->type;
    tensor.begin = number<std::uint64_t>("a tensor entry");  // place_tensors adds the data's start
    tensor.end = stored_bytes(tensor, *info, elements, where);
    if (!file_.names_.emplace(tensor.name, file_.tensors_.size()).second)
      throw_bad_input("the tensor name '" + tensor.name + "' appears twice", {}, {}, file_.path());
    file_.tensors_.push_back(std::move(tensor));
  }

  std::uint64_t stored_bytes(const GgufTensor& tensor, const GgmlTypeInfo& info,
                             std::int64_t elements, const std::string& where) const {
    const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % info.block_elements != 0) {
      throw_bad_input(
          "the rows of a tensor are not whole blocks", std::to_string(row) + " elements",
          "a multiple of " + std::to_string(info.block_elements) + " for " + std::string(info.name),
          where, kFetchAgain);
    }
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(elements / info.block_elements, info.block_bytes, &bytes))
      throw_bad_input("the size of a tensor is too large", {}, {}, where, kFetchAgain);
    return static_cast<std::uint64_t>(bytes);
  }

  /// Turns offsets into positions in the file and checks them. Until here `end` holds the size.
  void place_tensors() {
    const std::uint64_t data_begin =
        (position_ + file_.alignment_ - 1) / file_.alignment_ * file_.alignment_;
    std::vector<const GgufTensor*> order;
    for (GgufTensor& tensor : file_.tensors_) {
      const std::string where = file_.path() + ", tensor '" + tensor.name + "'";
      if (tensor.begin % file_.alignment_ != 0) {
        throw_bad_input("the data of a tensor is not aligned", std::to_string(tensor.begin),
                        "a multiple of " + std::to_string(file_.alignment_), where, kFetchAgain);
      }
      const std::uint64_t available =
          bytes_.size() - std::min<std::uint64_t>(data_begin, bytes_.size());
      if (tensor.begin > available || tensor.end > available - tensor.begin) {
        throw_bad_input("the data of a tensor passes the end of the file",
                        std::to_string(tensor.end) + " bytes at " + std::to_string(tensor.begin),
                        "inside of " + std::to_string(available) + " bytes of data", where,
                        kFetchAgain);
      }
      tensor.begin += data_begin;
      tensor.end += tensor.begin;
      order.push_back(&tensor);
    }
    std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (order[i]->begin >= order[i - 1]->end) continue;
      throw_bad_input("the data of two tensors overlap", order[i - 1]->name + ", " + order[i]->name,
                      {}, file_.path(), kFetchAgain);
    }
  }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t metadata_count_ = 0;
};

GgufFile::GgufFile(std::string path) : file_(std::move(path)) { GgufParser(*this).parse(); }

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = keys_.find(key);
  return found == keys_.end() ? nullptr : &metadata_[found->second].second;
}

const GgufValue& GgufFile::at(std::string_view key) const {
  if (const GgufValue* value = find(key)) return *value;
  throw_bad_input("the GGUF file has no metadata key '" + std::string(key) + "'", {}, {}, path());
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace espalier

#include "thrift.h"

#include "espalier/base/error.h"

namespace espalier::parquet {
namespace {

constexpr int kMostDepth = 32;

enum Type : std::uint8_t {
  kStop = 0,
  kTrue = 1,
  kFalse = 2,
  kByte = 3,
  kI16 = 4,
  kI32 = 5,
  kI64 = 6,
  kDouble = 7,
  kBinary = 8,
  kList = 9,
  kSet = 10,
  kStruct = 12,
};

class Reader {
 public:
  explicit Reader(std::string_view& bytes) : bytes_(bytes) {}

  ThriftValue read_struct(int depth) {
    if (depth > kMostDepth) refuse("its description is nested too deeply");
    ThriftValue value;
    std::int32_t id = 0;
    while (true) {
      const std::uint8_t head = byte();
      const std::uint8_t type = head & 0x0FU;
      if (type == kStop) return value;
      const std::uint8_t step = head >> 4U;
      id = step != 0 ? id + step : static_cast<std::int32_t>(zigzag());
      ThriftValue& field = value.fields[id];
      if (type == kTrue || type == kFalse) {
        field.number = type == kTrue ? 1 : 0;
      } else {
        field = read(type, depth);
      }
    }
  }

 private:
  ThriftValue read(std::uint8_t type, int depth) {
    ThriftValue value;
    switch (type) {
      case kTrue:
      case kFalse:                               // inside a list a boolean is a byte
      case kByte: value.number = byte(); break;  // nothing here is negative
      case kI16:
      case kI32:
      case kI64: value.number = zigzag(); break;
      case kDouble: take(sizeof(double)); break;  // nothing here needs one
      case kBinary: value.bytes = take(varint()); break;
      case kList:
      case kSet: value.list = read_list(depth); break;
      case kStruct: return read_struct(depth + 1);
      default: refuse("its description holds an unknown type", std::to_string(type));
    }
    return value;
  }

  std::vector<ThriftValue> read_list(int depth) {
    if (depth > kMostDepth) refuse("its description is nested too deeply");
    const std::uint8_t head = byte();
    std::uint64_t size = head >> 4U;
    if (size == 15) size = varint();
    if (size > bytes_.size()) refuse("its description is broken");
    std::vector<ThriftValue> list;
    for (std::uint64_t i = 0; i < size; ++i) list.push_back(read(head & 0x0FU, depth + 1));
    return list;
  }

  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size()) refuse("its description ends early");
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(take(1)[0]); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t part = byte();
      value |= static_cast<std::uint64_t>(part & 0x7FU) << shift;
      if ((part & 0x80U) == 0) return value;
    }
    refuse("its description holds a number that is too long");
  }
  std::int64_t zigzag() {
    const std::uint64_t value = varint();
    return static_cast<std::int64_t>(value >> 1U) ^ -static_cast<std::int64_t>(value & 1U);
  }

  std::string_view& bytes_;
};

}  // namespace

const ThriftValue& ThriftValue::field(std::int32_t id) const {
  static const ThriftValue kNone;
  const auto found = fields.find(id);
  return found == fields.end() ? kNone : found->second;
}

ThriftValue read_thrift(std::string_view& bytes) { return Reader(bytes).read_struct(0); }

void refuse(const std::string& what, const std::string& found, const std::string& expected) {
  throw_bad_input("the Parquet file can't be read: " + what, found, expected, {},
                  "write it anew, or convert it to JSON Lines");
}

}  // namespace espalier::parquet

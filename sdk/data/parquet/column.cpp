#include "column.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "delta.h"
#include "encoding.h"

namespace espalier::parquet {
namespace {

// Field numbers of parquet.thrift.
namespace meta {
constexpr int kCodec = 4;
constexpr int kNumValues = 5;
constexpr int kTotalCompressed = 7;
constexpr int kDataPageOffset = 9;
constexpr int kDictionaryPageOffset = 11;
}  // namespace meta
namespace page {
constexpr int kType = 1;
constexpr int kUncompressedSize = 2;
constexpr int kCompressedSize = 3;
constexpr int kData = 5;
constexpr int kDictionary = 7;
constexpr int kDataV2 = 8;
}  // namespace page

enum PageType : std::int64_t { kDataPage = 0, kDictionaryPage = 2, kDataPageV2 = 3 };
enum Physical : std::int64_t {
  kBoolean = 0,
  kInt32 = 1,
  kInt64 = 2,
  kFloat = 4,
  kDouble = 5,
  kByteArray = 6,
  kFixedBytes = 7,
};

std::vector<Value> decode_plain(std::string_view bytes, const ColumnType& type,
                                std::int64_t count) {
  std::vector<Value> values;
  for (std::int64_t i = 0; i < count; ++i) {
    switch (type.physical) {
      case kBoolean: {
        const auto place = static_cast<std::size_t>(i / 8);
        if (place >= bytes.size()) refuse("a page ends early");
        values.emplace_back((static_cast<std::uint8_t>(bytes[place]) >> (i % 8) & 1U) != 0);
        break;
      }
      case kInt32:
        values.emplace_back(std::int64_t{static_cast<std::int32_t>(take_u32(bytes))});
        break;
      case kInt64: values.emplace_back(static_cast<std::int64_t>(take_u64(bytes))); break;
      case kFloat: values.emplace_back(double{std::bit_cast<float>(take_u32(bytes))}); break;
      case kDouble: values.emplace_back(std::bit_cast<double>(take_u64(bytes))); break;
      case kByteArray: values.emplace_back(take_bytes(bytes, take_u32(bytes))); break;
      case kFixedBytes:
        values.emplace_back(take_bytes(bytes, static_cast<std::uint64_t>(type.length)));
        break;
      default:
        refuse("a column has a type that is not known here",
               "type " + std::to_string(type.physical));
    }
  }
  return values;
}

/// Reads the pages of a chunk one after the other.
class ChunkReader {
 public:
  ChunkReader(std::string_view file, const ThriftValue& chunk, const ColumnType& type)
      : type_(type), codec_(chunk.field(meta::kCodec).number) {
    std::int64_t begin = chunk.field(meta::kDataPageOffset).number;
    const std::int64_t dictionary = chunk.field(meta::kDictionaryPageOffset).number;
    if (chunk.has(meta::kDictionaryPageOffset) && dictionary > 0)
      begin = std::min(begin, dictionary);
    const std::int64_t size = chunk.field(meta::kTotalCompressed).number;
    const auto whole = static_cast<std::int64_t>(file.size());
    if (begin < 0 || size < 0 || begin > whole || size > whole - begin)
      refuse("a column lies outside of the file");
    rest_ = file.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(size));
    wanted_ =
        static_cast<std::size_t>(std::max<std::int64_t>(0, chunk.field(meta::kNumValues).number));
  }

  Column read() {
    while (column_.definition.size() < wanted_) read_page();
    return std::move(column_);
  }

 private:
  void read_page() {
    const ThriftValue header = read_thrift(rest_);
    const std::int64_t size = header.field(page::kCompressedSize).number;
    const std::int64_t unpacked = header.field(page::kUncompressedSize).number;
    if (size < 0) refuse("a page is broken");
    const std::string_view bytes = take_bytes(rest_, static_cast<std::uint64_t>(size));
    switch (header.field(page::kType).number) {
      case kDictionaryPage:
        dictionary_ = decode_plain(decompress(bytes, codec_, unpacked), type_,
                                   count_of(header.field(page::kDictionary)));
        break;
      case kDataPage: read_data(header.field(page::kData), bytes, unpacked); break;
      case kDataPageV2: read_data_v2(header.field(page::kDataV2), bytes, unpacked); break;
      default: break;  // pages of an index
    }
  }

  static std::int64_t count_of(const ThriftValue& header) {
    const std::int64_t count = header.field(1).number;
    constexpr std::int64_t kMost = std::int64_t{1} << 26;
    if (count < 0 || count > kMost) refuse("a page is broken");
    return count;
  }

  void read_data(const ThriftValue& header, std::string_view bytes, std::int64_t unpacked) {
    const std::int64_t count = count_of(header);
    const std::string page = decompress(bytes, codec_, unpacked);
    std::string_view rest = page;
    const auto levels = [&](int highest) {
      if (highest == 0) return std::string_view();
      return take_bytes(rest, take_u32(rest));
    };
    const std::string_view repetition = levels(type_.max_repetition);
    const std::string_view definition = levels(type_.max_definition);
    const std::int64_t present = add_levels(repetition, definition, count);
    add_values(rest, header.field(2).number, present);
  }

  void read_data_v2(const ThriftValue& header, std::string_view bytes, std::int64_t unpacked) {
    const std::int64_t count = count_of(header);
    const auto length = [&](int field) {
      return static_cast<std::uint64_t>(std::max<std::int64_t>(0, header.field(field).number));
    };
    const std::string_view repetition = take_bytes(bytes, length(6));
    const std::string_view definition = take_bytes(bytes, length(5));
    const std::int64_t present = add_levels(repetition, definition, count);
    const bool packed = !header.has(7) || header.field(7).number != 0;
    const auto levels = static_cast<std::int64_t>(length(5) + length(6));
    const std::string page = decompress(bytes, packed ? codec_ : 0, unpacked - levels);
    add_values(page, header.field(4).number, present);
  }

  /// Returns how many of the entries have a value.
  std::int64_t add_levels(std::string_view repetition, std::string_view definition,
                          std::int64_t count) {
    const auto decode = [count](std::string_view bytes, int highest) {
      if (highest == 0) return std::vector<std::uint32_t>(static_cast<std::size_t>(count), 0);
      return decode_hybrid(bytes, std::bit_width(static_cast<unsigned>(highest)), count);
    };
    const std::vector<std::uint32_t> repeated = decode(repetition, type_.max_repetition);
    const std::vector<std::uint32_t> defined = decode(definition, type_.max_definition);
    column_.repetition.insert(column_.repetition.end(), repeated.begin(), repeated.end());
    column_.definition.insert(column_.definition.end(), defined.begin(), defined.end());
    return std::count(defined.begin(), defined.end(),
                      static_cast<std::uint32_t>(type_.max_definition));
  }

  void add_values(std::string_view bytes, std::int64_t encoding, std::int64_t count) {
    std::vector<Value>& values = column_.values;
    if (encoding == kPlain) {
      for (Value& value : decode_plain(bytes, type_, count)) values.push_back(std::move(value));
    } else if (encoding == kPlainDictionary || encoding == kRleDictionary) {
      if (count == 0) return;
      const int width = static_cast<std::uint8_t>(take_bytes(bytes, 1)[0]);
      for (const std::uint32_t index : decode_hybrid(bytes, width, count)) {
        if (index >= dictionary_.size()) refuse("a page names a value that is not there");
        values.push_back(dictionary_[index]);
      }
    } else if (encoding == kRle && type_.physical == kBoolean) {
      for (const std::uint32_t bit : decode_hybrid(take_bytes(bytes, take_u32(bytes)), 1, count))
        values.emplace_back(bit != 0);
    } else {
      add_compact_values(bytes, encoding, count);
    }
  }

  /// The encodings for numbers in order, texts with equal beginnings, and floats.
  void add_compact_values(std::string_view bytes, std::int64_t encoding, std::int64_t count) {
    std::vector<Value>& values = column_.values;
    const bool text = type_.physical == kByteArray || type_.physical == kFixedBytes;
    const bool integer = type_.physical == kInt32 || type_.physical == kInt64;
    if (encoding == kDeltaBinaryPacked && integer) {
      for (const std::int64_t number : decode_delta_numbers(bytes, count)) {
        values.emplace_back(
            type_.physical == kInt32 ? std::int64_t{static_cast<std::int32_t>(number)} : number);
      }
    } else if (encoding == kDeltaLengthByteArray && text) {
      for (std::string& value : decode_delta_lengths(bytes, count))
        values.emplace_back(std::move(value));
    } else if (encoding == kDeltaByteArray && text) {
      for (std::string& value : decode_delta_texts(bytes, count))
        values.emplace_back(std::move(value));
    } else if (encoding == kByteStreamSplit && type_.physical != kBoolean &&
               type_.physical != kByteArray) {
      const std::string joined = join_byte_streams(bytes, value_bytes(), count);
      for (Value& value : decode_plain(joined, type_, count)) values.push_back(std::move(value));
    } else {
      refuse("a column is encoded in a way that is not known here",
             "encoding " + std::to_string(encoding), "plain, dictionary, delta or split streams");
    }
  }

  std::size_t value_bytes() const {
    if (type_.physical == kFixedBytes) return static_cast<std::size_t>(type_.length);
    return type_.physical == kInt32 || type_.physical == kFloat ? 4 : 8;
  }

  ColumnType type_;
  std::int64_t codec_;
  std::string_view rest_;
  std::size_t wanted_ = 0;
  std::vector<Value> dictionary_;
  Column column_;
};

}  // namespace

Column read_column(std::string_view file, const ThriftValue& chunk, const ColumnType& type) {
  return ChunkReader(file, chunk, type).read();
}

}  // namespace espalier::parquet

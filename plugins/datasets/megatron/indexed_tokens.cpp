#include "indexed_tokens.h"

#include <array>
#include <cstring>
#include <string_view>

#include "espalier/base/error.h"

namespace espalier::megatron {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::size_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;
/// Bytes of a token by type code; 0: the code means no integer. Codes: 1 u8, 2 i8, 3 i16, 4 i32,
/// 5 i64, 6 f64, 7 f32, 8 u16.
constexpr std::array<std::int64_t, 9> kWidths = {0, 1, 1, 2, 4, 8, 0, 0, 2};

template <class T>
T number_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;  // little endian in the file, as on this machine
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
std::vector<T> list_at(std::span<const std::byte> bytes, std::size_t offset, std::size_t count) {
  std::vector<T> list(count);
  if (count > 0) std::memcpy(list.data(), bytes.data() + offset, count * sizeof(T));
  return list;
}

}  // namespace

IndexedTokens::IndexedTokens(const std::string& prefix)
    : index_(prefix + ".idx"), tokens_(prefix + ".bin") {
  const auto bytes = index_.bytes();
  const auto refuse = [&](const std::string& what, const std::string& found,
                          const std::string& expected) {
    throw_bad_input(what, found, expected, index_.path(),
                    "check that both files were written and downloaded completely");
  };
  if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    refuse("this is no index of Megatron", std::to_string(bytes.size()) + " bytes",
           "a file that begins with MMIDIDX");
  const auto version = number_at<std::uint64_t>(bytes, 9);
  if (version != 1) refuse("the index is of another version", std::to_string(version), "1");
  type_ = number_at<std::uint8_t>(bytes, 17);
  width_ = type_ < kWidths.size() ? kWidths[type_] : 0;
  if (width_ == 0)
    refuse("the tokens are of a type that is no integer", "type code " + std::to_string(type_),
           "1 to 5 or 8");
  const auto sequences = number_at<std::uint64_t>(bytes, 18);
  const auto boundaries = number_at<std::uint64_t>(bytes, 26);
  const std::uint64_t room = bytes.size() - kHeaderBytes;
  const std::uint64_t each = sizeof(std::int32_t) + sizeof(std::int64_t);
  if (sequences > room / each || boundaries > room / sizeof(std::int64_t) ||
      sequences * each + boundaries * sizeof(std::int64_t) > room)
    refuse("the index is shorter than its header says", std::to_string(bytes.size()) + " bytes",
           std::to_string(sequences) + " sequences and " + std::to_string(boundaries) +
               " document boundaries");
  lengths_ = list_at<std::int32_t>(bytes, kHeaderBytes, sequences);
  places_ =
      list_at<std::int64_t>(bytes, kHeaderBytes + sequences * sizeof(std::int32_t), sequences);
  const auto size = static_cast<std::int64_t>(tokens_.bytes().size());
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    const bool fits = lengths_[i] >= 0 && places_[i] >= 0 && places_[i] <= size &&
                      lengths_[i] <= (size - places_[i]) / width_;
    if (!fits)
      refuse("a sequence lies outside of the tokens",
             "sequence " + std::to_string(i) + ": " + std::to_string(lengths_[i]) +
                 " tokens at byte " + std::to_string(places_[i]),
             "a place in the " + std::to_string(size) + " bytes of " + tokens_.path());
  }
}

void IndexedTokens::read(std::int64_t sequence, std::int64_t from, std::int64_t count,
                         std::vector<std::int64_t>& out) const {
  const auto bytes = tokens_.bytes();
  auto place =
      static_cast<std::size_t>(places_[static_cast<std::size_t>(sequence)] + from * width_);
  for (std::int64_t i = 0; i < count; ++i, place += static_cast<std::size_t>(width_)) {
    switch (type_) {
      case 1: out.push_back(number_at<std::uint8_t>(bytes, place)); break;
      case 2: out.push_back(number_at<std::int8_t>(bytes, place)); break;
      case 3: out.push_back(number_at<std::int16_t>(bytes, place)); break;
      case 4: out.push_back(number_at<std::int32_t>(bytes, place)); break;
      case 5: out.push_back(number_at<std::int64_t>(bytes, place)); break;
      default: out.push_back(number_at<std::uint16_t>(bytes, place)); break;
    }
  }
}

}  // namespace espalier::megatron

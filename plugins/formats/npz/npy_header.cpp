#include "npy_header.h"

#include <algorithm>
#include <array>
#include <utility>

#include "espalier/base/error.h"

namespace {

using espalier::DType;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kAlignment = 64;

constexpr std::array<std::pair<DType, std::string_view>, 13> kNames = {{{DType::kBool, "|b1"},
                                                                        {DType::kU8, "|u1"},
                                                                        {DType::kI8, "|i1"},
                                                                        {DType::kI16, "<i2"},
                                                                        {DType::kU16, "<u2"},
                                                                        {DType::kF16, "<f2"},
                                                                        {DType::kI32, "<i4"},
                                                                        {DType::kU32, "<u4"},
                                                                        {DType::kF32, "<f4"},
                                                                        {DType::kC64, "<c8"},
                                                                        {DType::kF64, "<f8"},
                                                                        {DType::kI64, "<i8"},
                                                                        {DType::kU64, "<u8"}}};

/// Reads the one Python dictionary that a header is.
class DictionaryReader {
 public:
  DictionaryReader(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  NpyHeader read() {
    NpyHeader header;
    bool has_dtype = false;
    bool has_shape = false;
    take("{");
    while (!try_take("}")) {
      const std::string_view key = quoted();
      take(":");
      if (key == "descr") {
        header.dtype = dtype(quoted());
        has_dtype = true;
      } else if (key == "fortran_order") {
        header.columns_first = try_take("True");
        if (!header.columns_first) take("False");
      } else if (key == "shape") {
        header.shape = shape();
        has_shape = true;
      } else {
        refuse("has an unknown key", std::string(key));
      }
      if (!try_take(",")) {
        take("}");
        break;
      }
    }
    if (!has_dtype || !has_shape) refuse("lacks descr or shape", std::string(text_.substr(0, 100)));
    return header;
  }

 private:
  [[noreturn]] void refuse(const std::string& what, std::string found) const {
    espalier::throw_bad_input("the header of an array " + what, std::move(found),
                              "what numpy.save writes", where_, "write the file again");
  }
  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool try_take(std::string_view word) {
    skip_blanks();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  void take(std::string_view word) {
    if (!try_take(word))
      refuse("is malformed", std::string(text_.substr(std::min(at_, text_.size()), 40)));
  }
  std::string_view quoted() {
    skip_blanks();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote == '[') refuse("describes records, not numbers", std::string(text_.substr(at_, 40)));
    take(quote == '"' ? "\"" : "'");
    const std::size_t end = std::min(text_.find(quote, at_), text_.size());
    const std::string_view word = text_.substr(at_, end - at_);
    at_ = end;
    take(std::string_view(&quote, 1));
    return word;
  }
  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> sizes;
    take("(");
    while (!try_take(")")) {
      skip_blanks();
      std::size_t end = at_;
      while (end < text_.size() && text_[end] >= '0' && text_[end] <= '9') ++end;
      if (end == at_ || end - at_ > 18) refuse("has a malformed shape", std::string(text_));
      sizes.push_back(std::stoll(std::string(text_.substr(at_, end - at_))));
      at_ = end;
      if (!try_take(",")) {
        take(")");
        break;
      }
    }
    return sizes;
  }
  DType dtype(std::string_view name) const {
    for (const auto& [dtype, known] : kNames) {
      if (name == known) return dtype;
    }
    espalier::throw_bad_input("an array holds numbers of a type that tensors don't have",
                              std::string(name), "|b1, |u1, <i4, <f2, <f4, <f8 and the like",
                              where_, "save it as another type: array.astype('<f4')");
  }

  std::string_view text_;
  const std::string& where_;
  std::size_t at_ = 0;
};

}  // namespace

NpyHeader read_npy_header(std::span<const std::byte> file, const std::string& where) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  const auto byte = [&](std::size_t i) { return std::to_integer<std::uint64_t>(file[i]); };
  const bool begins = bytes.starts_with(kMagic) && bytes.size() > kMagic.size() + 6;
  const std::uint64_t version = begins ? byte(6) : 0;
  if (version < 1 || version > 3)
    espalier::throw_bad_input("an entry of the archive is no .npy file of version 1 to 3", {},
                              "arrays alone, as numpy.savez writes them", where);
  std::uint64_t start = 10;
  std::uint64_t length = byte(8) | byte(9) << 8U;
  if (version > 1) {
    start = 12;
    length |= byte(10) << 16U | byte(11) << 24U;
  }
  if (length > bytes.size() - std::min<std::uint64_t>(start, bytes.size()))
    espalier::throw_bad_input("the header of an array passes its end", std::to_string(length),
                              "at most " + std::to_string(bytes.size()), where,
                              "the file is damaged: copy or write it again");
  NpyHeader header = DictionaryReader(bytes.substr(start, length), where).read();
  header.size = start + length;
  return header;
}

std::optional<std::string> npy_header(DType dtype, std::span<const std::int64_t> shape) {
  const auto* name = std::find_if(kNames.begin(), kNames.end(),
                                  [&](const auto& entry) { return entry.first == dtype; });
  if (name == kNames.end()) return std::nullopt;
  std::string text =
      "{'descr': '" + std::string(name->second) + "', 'fortran_order': False, 'shape': (";
  for (const std::int64_t size : shape) text += std::to_string(size) + ", ";
  if (shape.size() > 1) text.resize(text.size() - 2);
  if (shape.size() == 1) text.pop_back();
  text += "), }";
  const std::size_t start = kMagic.size() + 4;
  while ((start + text.size() + 1) % kAlignment != 0) text += ' ';
  text += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(text.size() & 0xFFU),
             static_cast<char>(text.size() >> 8U)};
  return header + text;
}

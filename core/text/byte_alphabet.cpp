#include "text/byte_alphabet.h"

#include <array>

#include "espalier/base/utf8.h"

namespace espalier::text {
namespace {

/// Printable Latin-1 characters stand for themselves, the others for 256 onwards.
struct Alphabet {
  std::array<char32_t, 256> chars{};
  std::array<int, 512> bytes{};

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      chars[byte] = printable ? byte : next++;
      bytes[chars[byte]] = static_cast<int>(byte);
    }
  }

  static const Alphabet& get() {
    static const Alphabet kAlphabet;
    return kAlphabet;
  }
};

}  // namespace

char32_t byte_to_char(unsigned char byte) { return Alphabet::get().chars[byte]; }

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) append_utf8(text, byte_to_char(static_cast<unsigned char>(byte)));
  return text;
}

std::optional<std::string> from_byte_level(std::string_view text) {
  const Alphabet& alphabet = Alphabet::get();
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t point = next_code_point(text, at);
    if (point >= alphabet.bytes.size() || alphabet.bytes[point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet.bytes[point]));
  }
  return bytes;
}

std::vector<CharChange> byte_level_changes(std::string_view text) {
  std::vector<CharChange> changes;
  changes.reserve(text.size());
  for (const char byte : text)
    changes.push_back(
        {byte_to_char(static_cast<unsigned char>(byte)), is_utf8_continuation(byte) ? 1 : 0});
  return changes;
}

}  // namespace espalier::text

#include "event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <string_view>

#include "espalier/base/file.h"

namespace espalier::tensorboard {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reversed
constexpr std::uint32_t kMaskDelta = 0xa282ead8;

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = (value & 1) != 0 ? value >> 1 ^ kPolynomial : value >> 1;
    table[i] = value;
  }
  return table;
}

template <class Number>
std::string little_endian(Number number) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof number; ++i)
    bytes += static_cast<char>(number >> (8 * i) & 0xff);
  return bytes;
}

// --- protobuf: a key of field number and wire type, then the value ---

enum Wire : unsigned { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(unsigned field, Wire wire) { return varint(field << 3 | wire); }
std::string number_field(unsigned field, std::uint64_t value) {
  return key(field, kVarint) + varint(value);
}
std::string bytes_field(unsigned field, std::string_view bytes) {
  return key(field, kBytes) + varint(bytes.size()) + std::string(bytes);
}

std::string summary(const std::string& value) { return bytes_field(5, bytes_field(1, value)); }

}  // namespace

std::uint32_t masked_checksum(const std::string& bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_table();
  std::uint32_t value = 0xffffffff;
  for (const char c : bytes)
    value = kTable[(value ^ static_cast<unsigned char>(c)) & 0xff] ^ value >> 8;
  return std::rotr(value ^ 0xffffffff, 15) + kMaskDelta;
}

EventFile::EventFile(const std::string& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_io("create", path_, errno);
  write_event(0, bytes_field(3, "brain.Event:2"));
}

EventFile::~EventFile() { ::close(descriptor_); }

void EventFile::write_event(std::int64_t step, const std::string& content) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::string event = key(1, kFixed64) + little_endian(std::bit_cast<std::uint64_t>(now)) +
                            number_field(2, static_cast<std::uint64_t>(step)) + content;
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  const std::string record = length + little_endian(masked_checksum(length)) + event +
                             little_endian(masked_checksum(event));
  std::string_view left = record;
  while (!left.empty()) {
    const ssize_t count = ::write(descriptor_, left.data(), left.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io("write", path_, errno);
    left.remove_prefix(static_cast<std::size_t>(count));
  }
}

void EventFile::add_scalar(const std::string& tag, std::int64_t step, float value) {
  write_event(step, summary(bytes_field(1, tag) + key(2, kFixed32) +
                            little_endian(std::bit_cast<std::uint32_t>(value))));
}

void EventFile::add_text(const std::string& tag, std::int64_t step, const std::string& text) {
  constexpr std::uint64_t kString = 7;  // DT_STRING
  const std::string shape = bytes_field(2, number_field(1, 1));
  const std::string tensor =
      number_field(1, kString) + bytes_field(2, shape) + bytes_field(8, text);
  const std::string metadata = bytes_field(1, bytes_field(1, "text"));
  write_event(step,
              summary(bytes_field(1, tag) + bytes_field(8, tensor) + bytes_field(9, metadata)));
}

void EventFile::forget_from(std::int64_t step) {
  constexpr std::uint64_t kStart = 1;  // SessionLog.START
  write_event(step, bytes_field(7, number_field(1, kStart)));
}

void EventFile::sync() {
  if (::fsync(descriptor_) != 0) throw_io("sync", path_, errno);
}

}  // namespace espalier::tensorboard

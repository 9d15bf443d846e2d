#include "espalier/data/data_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <vector>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kGzip = "\x1F\x8B\x08";
constexpr std::string_view kZstandard = "\x28\xB5\x2F\xFD";
constexpr std::size_t kInputBytes = std::size_t{1} << 18;
constexpr int kGzipWindow = 15 + 16;  // the largest window, and a gzip header

[[noreturn]] void refuse(const std::string& path, const char* format, const std::string& what) {
  throw_bad_input(std::string("the file begins as ") + format + ", but " + what, {},
                  "a whole compressed file", path,
                  "check that it was written and downloaded completely");
}

}  // namespace

/// Reads the file, and unpacks what it reads.
struct ByteStream::Decoder {
  enum class Format { kPlain, kGzip, kZstandard };

  explicit Decoder(const std::string& path) : path(path) {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) throw_io("open", path, errno);
    fill();
    const std::string_view start(input.data(), available);
    if (start.starts_with(kGzip)) {
      format = Format::kGzip;
      if (::inflateInit2(&gzip, kGzipWindow) != Z_OK) refuse(path, "gzip", "there is no memory");
    } else if (start.starts_with(kZstandard)) {
      format = Format::kZstandard;
      zstandard = ::ZSTD_createDStream();
      if (zstandard == nullptr) refuse(path, "Zstandard", "there is no memory");
    }
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() {
    if (format == Format::kGzip) ::inflateEnd(&gzip);
    if (zstandard != nullptr) ::ZSTD_freeDStream(zstandard);
    ::close(descriptor);
  }

  /// Reads more of the file when all that was read is used up; false at its end.
  bool fill() {
    if (used < available) return true;
    used = 0;
    available = 0;
    const ssize_t count = ::read(descriptor, input.data(), input.size());
    if (count < 0) throw_io("read", path, errno);
    available = static_cast<std::size_t>(count);
    return available > 0;
  }

  std::size_t copy(std::span<char> out) {
    if (!fill()) return 0;
    const std::size_t count = std::min(out.size(), available - used);
    std::copy_n(input.data() + used, count, out.data());
    used += count;
    return count;
  }

  std::size_t unpack_gzip(std::span<char> out) {
    const auto room =
        static_cast<uInt>(std::min<std::size_t>(out.size(), std::numeric_limits<uInt>::max()));
    gzip.next_out = reinterpret_cast<Bytef*>(out.data());
    gzip.avail_out = room;
    while (gzip.avail_out == room) {
      if (!fill()) {
        if (inside) refuse(path, "gzip", "its data ends early");
        return 0;
      }
      if (!inside && ::inflateReset(&gzip) != Z_OK) refuse(path, "gzip", "its data is broken");
      inside = true;
      gzip.next_in = reinterpret_cast<Bytef*>(input.data() + used);
      gzip.avail_in = static_cast<uInt>(available - used);
      const int status = ::inflate(&gzip, Z_NO_FLUSH);
      used = available - gzip.avail_in;
      if (status == Z_STREAM_END) {
        inside = false;  // another part may follow
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        refuse(path, "gzip", "its data is broken");
      }
    }
    return room - gzip.avail_out;
  }

  std::size_t unpack_zstandard(std::span<char> out) {
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    while (output.pos == 0) {
      const bool more = fill();
      if (!more && !inside) return 0;
      ZSTD_inBuffer source = {input.data(), available, used};
      const std::size_t status = ::ZSTD_decompressStream(zstandard, &output, &source);
      if (::ZSTD_isError(status) != 0) refuse(path, "Zstandard", "its data is broken");
      used = source.pos;
      inside = status != 0;
      if (!more && inside && output.pos == 0) refuse(path, "Zstandard", "its data ends early");
    }
    return output.pos;
  }

  const std::string& path;
  int descriptor = -1;
  Format format = Format::kPlain;
  std::vector<char> input = std::vector<char>(kInputBytes);
  std::size_t available = 0;
  std::size_t used = 0;
  bool inside = false;  ///< a compressed part was begun and is not at its end
  z_stream gzip = {};
  ZSTD_DStream* zstandard = nullptr;
};

ByteStream::ByteStream(std::string path)
    : path_(std::move(path)), decoder_(std::make_unique<Decoder>(path_)) {}

ByteStream::~ByteStream() = default;

bool ByteStream::is_compressed() const { return decoder_->format != Decoder::Format::kPlain; }

std::size_t ByteStream::read(std::span<char> out) {
  if (out.empty()) return 0;
  switch (decoder_->format) {
    case Decoder::Format::kGzip: return decoder_->unpack_gzip(out);
    case Decoder::Format::kZstandard: return decoder_->unpack_zstandard(out);
    case Decoder::Format::kPlain: break;
  }
  return decoder_->copy(out);
}

DataFile::DataFile(const std::string& path) : path_(path) {
  ByteStream stream(path);
  if (stream.is_compressed()) {
    auto text = std::make_unique<std::string>();
    std::vector<char> part(kInputBytes);
    while (const std::size_t count = stream.read(part)) text->append(part.data(), count);
    decompressed_ = std::move(text);
    text_ = *decompressed_;
  } else {
    mapped_.emplace(path);
    const auto bytes = mapped_->bytes();
    text_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
}

std::size_t DataFile::line_of(std::string_view part) const {
  return 1 + static_cast<std::size_t>(std::count(text_.data(), part.data(), '\n'));
}

}  // namespace espalier

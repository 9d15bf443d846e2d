#include "espalier/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "espalier/base/atomic_file.h"
#include "espalier/base/descriptor.h"
#include "espalier/base/error.h"

namespace espalier {
namespace {

Descriptor open_for_reading(const std::string& path, struct stat& status) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) throw_io("open", path, errno);
  if (::fstat(file.get(), &status) != 0) throw_io("inspect", path, errno);
  if (S_ISDIR(status.st_mode)) throw_io("read", path, EISDIR);
  return file;
}

}  // namespace

void throw_io(std::string_view action, const std::string& path, int error_number) {
  Problem problem;
  problem.code = ErrorCode::kIo;
  problem.what =
      "cannot " + std::string(action) + " '" + path + "': " + std::strerror(error_number);
  if (error_number == ENOSPC)
    problem.hint = "free some space on this file system, then run the command again";
  if (error_number == ENOENT)
    problem.hint = "check the path; it is taken relative to the current folder";
  throw Error(std::move(problem));
}

std::string read_file(const std::string& path) {
  struct stat status {};
  const Descriptor file = open_for_reading(path, status);
  std::string content;
  content.resize(static_cast<std::size_t>(status.st_size));
  std::size_t filled = 0;
  while (true) {
    if (filled == content.size())
      content.resize(filled + 65536);  // also serves pipes and growing files
    const ssize_t count = ::read(file.get(), content.data() + filled, content.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io("read", path, errno);
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  content.resize(filled);
  return content;
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.append(content);
  file.commit();
}

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  struct stat status {};
  Descriptor file = open_for_reading(path_, status);
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ != 0) {
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) throw_io("map", path_, errno);
    data_ = static_cast<const std::byte*>(address);
  }
  descriptor_ = file.release();
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MappedFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t count = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io("read", path_, errno);
    if (count == 0) {
      throw Error(Problem{.code = ErrorCode::kIo,
                          .what = "'" + path_ + "' ended while it was read",
                          .hint = "another program may have cut it short: fetch the file again"});
    }
    out = out.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

}  // namespace espalier

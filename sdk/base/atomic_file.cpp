#include "espalier/base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::string_view kTemporarySuffix = ".tmp.";  // then the number of the process

bool is_temporary(const std::string& name) {
  const std::size_t suffix = name.rfind(kTemporarySuffix);
  if (suffix == std::string::npos) return false;
  const std::size_t number = suffix + kTemporarySuffix.size();
  return number < name.size() && name.find_first_not_of("0123456789", number) == std::string::npos;
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)),
      temporary_(path_ + std::string(kTemporarySuffix) + std::to_string(::getpid())) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_io("create", temporary_, errno);
  buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::append(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) {
    write_out(bytes);
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
}

void AtomicFile::write_out(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io("write", path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::flush() {
  write_out(buffer_);
  buffer_.clear();
}

void AtomicFile::commit() {
  ESPALIER_ASSERT(descriptor_ >= 0, "the file was committed before");
  flush();
  if (::fsync(descriptor_) != 0) throw_io("sync", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw_io("write", path_, errno);
  // From here on the new file is in place; the destructor has nothing to remove.
  if (::close(std::exchange(descriptor_, -1)) != 0) throw_io("close", path_, errno);
  sync_folder(std::filesystem::path(path_).parent_path().string());
}

void remove_unfinished_files(const std::string& folder) {
  std::vector<std::filesystem::path> unfinished;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (is_temporary(entry.path().filename().string())) unfinished.push_back(entry.path());
  }
  if (failure && failure != std::errc::no_such_file_or_directory)
    throw_io("list", folder, failure.value());
  for (const std::filesystem::path& path : unfinished) {
    if (!std::filesystem::remove(path, failure) && failure)
      throw_io("remove", path.string(), failure.value());
  }
}

void sync_folder(const std::string& folder) {
  const std::string path = folder.empty() ? "." : folder;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_io("sync", path, errno);
  const int result = ::fsync(descriptor);
  const int error_number = errno;
  ::close(descriptor);
  if (result != 0) throw_io("sync", path, error_number);
}

}  // namespace espalier

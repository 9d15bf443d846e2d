#include "app/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier::app {

RunFolder::RunFolder(std::string path) : path_(std::move(path)) {
  std::error_code failure;
  std::filesystem::create_directories(path_, failure);
  if (failure) throw_io("create", path_, failure.value());
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) throw_io("open", path_, errno);
  // A file system without locks is used without them.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    throw Error(Problem{ErrorCode::kIo,
                        "another process trains in this run folder",
                        {},
                        {},
                        path_,
                        "wait for it to end, or choose another output_dir"});
  }
  try {
    remove_unfinished_files(path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

RunFolder::~RunFolder() { ::close(descriptor_); }

}  // namespace espalier::app

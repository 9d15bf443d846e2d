// Preloaded into a program (LD_PRELOAD), makes one of its changes to a folder go wrong. Counts,
// from 1, every call that changes something under FAULT_FOLDER; call number FAULT_AT goes as
// FAULT_KIND says:
//
//   kill     the process dies by SIGKILL before the call; a write is half done
//   enospc   the disk is full from here on: a write is cut short, then every write and creation
//   fails eio      this one call fails with an I/O error term     the process is sent SIGTERM, and
//   the call goes on int      the same with SIGINT
//
// FAULT_LOG names a file that gets a line "NUMBER CALL PATH" for each. Calls inside of libc (stdio)
// are not seen.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

enum class Outcome { kGoOn, kFail, kCutShort };

struct Settings {
  std::string folder;
  std::string kind;
  long at = 0;
  int log = -1;

  Settings() {
    const auto text = [](const char* name) {
      const char* value = std::getenv(name);
      return std::string(value == nullptr ? "" : value);
    };
    folder = text("FAULT_FOLDER");
    kind = text("FAULT_KIND");
    at = std::atol(text("FAULT_AT").c_str());
    const std::string path = text("FAULT_LOG");
    if (!path.empty())
      log = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(),
                                       O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644));
  }
};

const Settings& settings() {
  static const Settings kSettings;
  return kSettings;
}

std::atomic<long> call_count{0};
std::atomic<bool> disk_full{false};

std::string path_of(int descriptor) {
  char target[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  return length < 0 ? std::string() : std::string(target, static_cast<std::size_t>(length));
}

std::string path_at(int folder, const char* path) {
  if (path[0] == '/' || folder == AT_FDCWD) return path;
  return path_of(folder) + "/" + path;
}

/// Counts the call and says how it goes. `grows`: it needs room on the disk.
Outcome next(const char* call, const std::string& path, bool grows) {
  const Settings& chosen = settings();
  if (chosen.folder.empty() || !path.starts_with(chosen.folder)) return Outcome::kGoOn;
  const long number = ++call_count;
  if (chosen.log >= 0) {
    const std::string line = std::to_string(number) + " " + call + " " + path + "\n";
    ::syscall(SYS_write, chosen.log, line.data(), line.size());
  }
  if (disk_full && grows) {
    errno = ENOSPC;
    return Outcome::kFail;
  }
  if (number != chosen.at) return Outcome::kGoOn;
  if (chosen.kind == "kill") return Outcome::kCutShort;
  if (chosen.kind == "term" || chosen.kind == "int") {
    ::kill(::getpid(), chosen.kind == "term" ? SIGTERM : SIGINT);
    return Outcome::kGoOn;
  }
  if (chosen.kind == "enospc") {
    disk_full = true;
    errno = ENOSPC;
    return std::strstr(call, "write") != nullptr ? Outcome::kCutShort : Outcome::kFail;
  }
  errno = EIO;
  return Outcome::kFail;
}

void die_if_asked(Outcome outcome) {
  if (outcome == Outcome::kCutShort && settings().kind == "kill") ::kill(::getpid(), SIGKILL);
}

/// Calls the function that this library hides, unless the call has to fail.
template <class Function, class... Arguments>
int pass_on(const char* call, const std::string& path, bool grows, Arguments... arguments) {
  const Outcome outcome = next(call, path, grows);
  die_if_asked(outcome);
  if (outcome != Outcome::kGoOn) return -1;
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, call))(arguments...);
}

mode_t mode_argument(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
}

int open_at(const char* call, int folder, const char* path, int flags, mode_t mode) {
  if ((flags & O_CREAT) != 0) {
    const Outcome outcome = next(call, path_at(folder, path), true);
    die_if_asked(outcome);
    if (outcome != Outcome::kGoOn) return -1;
  }
  return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* data, size_t size) {
  const Outcome outcome = next("write", path_of(descriptor), true);
  if (outcome == Outcome::kFail) return -1;
  const size_t wanted = outcome == Outcome::kCutShort ? size / 2 : size;
  const ssize_t count = ::syscall(SYS_write, descriptor, data, wanted);
  die_if_asked(outcome);
  return count;
}

ssize_t pwrite(int descriptor, const void* data, size_t size, off_t offset) {
  const Outcome outcome = next("pwrite", path_of(descriptor), true);
  if (outcome == Outcome::kFail) return -1;
  const size_t wanted = outcome == Outcome::kCutShort ? size / 2 : size;
  const ssize_t count = ::syscall(SYS_pwrite64, descriptor, data, wanted, offset);
  die_if_asked(outcome);
  return count;
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  const Outcome outcome = next("writev", path_of(descriptor), true);
  if (outcome == Outcome::kFail) return -1;
  const ssize_t written =
      ::syscall(SYS_writev, descriptor, parts, outcome == Outcome::kCutShort ? count / 2 : count);
  die_if_asked(outcome);
  return written;
}

int fsync(int descriptor) {
  return pass_on<int(int)>("fsync", path_of(descriptor), false, descriptor);
}
int fdatasync(int descriptor) {
  return pass_on<int(int)>("fdatasync", path_of(descriptor), false, descriptor);
}
int ftruncate(int descriptor, off_t size) {
  return pass_on<int(int, off_t)>("ftruncate", path_of(descriptor), true, descriptor, size);
}
int rename(const char* from, const char* to) {
  return pass_on<int(const char*, const char*)>("rename", to, false, from, to);
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  return pass_on<int(int, const char*, int, const char*)>("renameat", path_at(to_folder, to), false,
                                                          from_folder, from, to_folder, to);
}
int mkdir(const char* path, mode_t mode) {
  return pass_on<int(const char*, mode_t)>("mkdir", path, true, path, mode);
}
int mkdirat(int folder, const char* path, mode_t mode) {
  return pass_on<int(int, const char*, mode_t)>("mkdirat", path_at(folder, path), true, folder,
                                                path, mode);
}
int unlink(const char* path) { return pass_on<int(const char*)>("unlink", path, false, path); }
int unlinkat(int folder, const char* path, int flags) {
  return pass_on<int(int, const char*, int)>("unlinkat", path_at(folder, path), false, folder, path,
                                             flags);
}
int rmdir(const char* path) { return pass_on<int(const char*)>("rmdir", path, false, path); }
int remove(const char* path) { return pass_on<int(const char*)>("remove", path, false, path); }

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_at("open", AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_at("open", AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_at("openat", folder, path, flags, mode);
}

}  // extern "C"

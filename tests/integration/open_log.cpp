// Preloaded into a program (LD_PRELOAD), writes the path of every file that it opens to the file
// OPEN_LOG. Libraries that the loader maps are not among them: LD_DEBUG=files shows those.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

void log_path(const char* path) {
  const char* file = std::getenv("OPEN_LOG");
  if (file == nullptr) return;
  const auto log =
      static_cast<int>(::syscall(SYS_openat, AT_FDCWD, file, O_CREAT | O_WRONLY | O_APPEND, 0644));
  const std::string line = std::string(path) + "\n";
  ::syscall(SYS_write, log, line.data(), line.size());
  ::syscall(SYS_close, log);
}

int open_logged(int folder, const char* path, int flags, va_list arguments) {
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  log_path(path);
  return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int descriptor = open_logged(AT_FDCWD, path, flags, arguments);
  va_end(arguments);
  return descriptor;
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int descriptor = open_logged(AT_FDCWD, path, flags, arguments);
  va_end(arguments);
  return descriptor;
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int descriptor = open_logged(folder, path, flags, arguments);
  va_end(arguments);
  return descriptor;
}
FILE* fopen(const char* path, const char* mode) {
  log_path(path);
  return reinterpret_cast<FILE* (*)(const char*, const char*)>(::dlsym(RTLD_NEXT, "fopen"))(path,
                                                                                            mode);
}
FILE* fopen64(const char* path, const char* mode) {
  log_path(path);
  return reinterpret_cast<FILE* (*)(const char*, const char*)>(::dlsym(RTLD_NEXT, "fopen64"))(path,
                                                                                              mode);
}

}  // extern "C"

#include "formats/output_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier::formats {
namespace fs = std::filesystem;

OutputFolder::OutputFolder(const std::string& target,
                           const std::function<bool(const std::string&)>& may_replace)
    : target_(fs::absolute(target).lexically_normal()) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "models/x/"
  check_target(may_replace);
  std::error_code error;
  std::vector<fs::path> missing;
  for (fs::path p = target_.parent_path(); !fs::exists(p, error); p = p.parent_path())
    missing.push_back(p);
  for (auto parent = missing.rbegin(); parent != missing.rend(); ++parent) {
    if (fs::create_directory(*parent, error)) created_parents_.push_back(*parent);
  }
  temporary_ = target_;
  temporary_ += ".tmp." + std::to_string(::getpid());
  fs::remove_all(temporary_, error);
  if (!fs::create_directory(temporary_, error)) {
    for (auto made = created_parents_.rbegin(); made != created_parents_.rend(); ++made) {
      std::error_code ignored;
      fs::remove(*made, ignored);
    }
    throw_io("create", temporary_.string(), error ? error.value() : EEXIST);
  }
}

void OutputFolder::check_target(const std::function<bool(const std::string&)>& may_replace) const {
  std::error_code error;
  if (!fs::exists(target_, error)) return;
  if (!fs::is_directory(target_, error))
    throw_bad_input("the output is not a folder", target_.string(), "a new folder", {});
  for (const fs::directory_entry& entry : fs::directory_iterator(target_)) {
    const std::string name = entry.path().filename().string();
    if (!may_replace) {
      throw_bad_input("the output folder is there and not empty", name, "a new or empty folder",
                      target_.string(), "name another folder, or give --overwrite");
    }
    if (!may_replace(name)) {
      throw_bad_input(
          "the output folder holds a file that is no part of a model, so it is not "
          "overwritten",
          name, "only files that this command writes", target_.string(),
          "name another folder, or move that file away");
    }
  }
}

OutputFolder::~OutputFolder() {
  if (published_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  for (auto made = created_parents_.rbegin(); made != created_parents_.rend(); ++made)
    fs::remove(*made, ignored);
}

void OutputFolder::publish() {
  sync_folder(temporary_.string());
  // A missing or empty target is replaced by a plain rename; a full one is exchanged in one step.
  const bool renamed = ::rename(temporary_.c_str(), target_.c_str()) == 0;
  if (!renamed && (errno == ENOTEMPTY || errno == EEXIST)) {
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0)
      throw_io("replace", target_.string(), errno);
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);  // now the old folder
  } else if (!renamed) {
    throw_io("create", target_.string(), errno);
  }
  published_ = true;
  sync_folder(target_.parent_path().string());
}

}  // namespace espalier::formats

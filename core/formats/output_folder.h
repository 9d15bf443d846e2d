#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace espalier::formats {

/// A folder that appears whole or not at all: filled under a temporary name beside its place, then
/// renamed. Without `publish` the destructor removes all of it. Throws Error.
class OutputFolder {
 public:
  /// Refuses a `target` that is there and not empty, unless `may_replace` is given and true for
  /// every name in it: only then `publish` may replace the folder.
  OutputFolder(const std::string& target,
               const std::function<bool(const std::string&)>& may_replace);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  ~OutputFolder();

  /// Where to write until it is published.
  std::string path() const { return temporary_.string(); }
  std::string operator/(const std::string& name) const { return (temporary_ / name).string(); }
  void publish();

 private:
  void check_target(const std::function<bool(const std::string&)>& may_replace) const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  std::vector<std::filesystem::path> created_parents_;  ///< innermost last
  bool published_ = false;
};

}  // namespace espalier::formats

#pragma once

#include <string>

namespace espalier::app {

/// The folder that a run writes to, kept for this process as long as the object lives: two runs in
/// one folder would take each other's checkpoints apart. Creates the folder, and clears away files
/// that a killed process left half-written.
class RunFolder {
 public:
  /// Throws Error(kIo) when the folder can't be created, or another process trains in it.
  explicit RunFolder(std::string path);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;  ///< of the folder itself, locked
};

}  // namespace espalier::app

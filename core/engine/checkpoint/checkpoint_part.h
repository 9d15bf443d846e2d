#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "espalier/base/safetensors_writer.h"

namespace espalier {

/// A file that a rank writes of a checkpoint.
struct CheckpointFile {
  std::string name;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  TensorMetadata metadata;
};

/// What a rank writes of a checkpoint: the tensors of the run, or once `copy` is through a snapshot
/// of them in the host's memory.
class CheckpointPart {
 public:
  explicit CheckpointPart(std::vector<CheckpointFile> files) : files_(std::move(files)) {}
  CheckpointPart(const CheckpointPart&) = delete;
  CheckpointPart& operator=(const CheckpointPart&) = delete;

  /// Takes the snapshot, on any thread, and on that one alone: the others compute.
  void copy();
  /// Returns when the snapshot is taken, or could not be: the run may then change its tensors.
  void wait_for_copy();
  /// Throws Error(kIo).
  void write(const std::string& folder) const;

 private:
  std::vector<CheckpointFile> files_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool copied_ = false;
};

}  // namespace espalier

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/base/safetensors_writer.h"
#include "espalier/base/tensor_file.h"

namespace espalier {

/// Reads, and perhaps writes, weights in a kind of file that the host does not know itself. Its
/// manifest entry says which files, so that they are found before any code runs:
///
///     .serves("files", {"*.npz"})           // names in the model folder, with '*' and '?'
///     .serves("magic", {"504b0304"})        // how such a file begins, in hex; optional
///     .property("writes", "model.npz")      // where it writes: the name of its file
///
/// It is asked where a model folder has weights neither in safetensors nor in PyTorch's form, or
/// where the recipe names it (`model.checkpoint_format`). All files of a folder that it serves are
/// one checkpoint. No LibTorch is needed: a plugin built with NO_TORCH serves `espalier convert`
/// too. All methods may be called from several threads at once.
class ESPALIER_API CheckpointFormat {
 public:
  static constexpr InterfaceId kInterface{"CheckpointFormat", 1};

  CheckpointFormat() = default;
  CheckpointFormat(const CheckpointFormat&) = delete;
  CheckpointFormat& operator=(const CheckpointFormat&) = delete;
  virtual ~CheckpointFormat();

  /// Opens one file and reads its directory, not the data of its tensors: models are larger than
  /// memory. Never null; lives on without this object. Names are those of transformers. Throws
  /// Error(kBadInput) that names the file for one that is damaged, cut short or of another kind,
  /// Error(kIo) for one that can't be read.
  virtual std::unique_ptr<TensorFile> open(const std::string& path) const = 0;

  /// Writes one file, whole or not at all (AtomicFile). Pieces come from `tensors` in order, each
  /// once; nothing of them is kept. Throws Error(kBadInput) for repeated names, Error(kUnsupported)
  /// for a dtype that the format lacks, Error(kIo), and Error(kInternal) for a source that gives
  /// too few or too many bytes. Unless overridden Error(kUnsupported).
  virtual void write(const std::string& path, const std::vector<TensorSource>& tensors,
                     const TensorMetadata& metadata) const;
};

}  // namespace espalier

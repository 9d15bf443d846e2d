#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/dtype.h"
#include "espalier/sdk/checkpoint_format.h"

namespace espalier::formats {

/// Weights in files of a plugin's format; no formats: safetensors, or PyTorch's form to read.
struct ForeignWeights {
  std::shared_ptr<const CheckpointFormat> reader;
  std::vector<std::string> files;  ///< for `reader`, in the source folder
  std::shared_ptr<const CheckpointFormat> writer;
  std::string file_name;  ///< that `writer` writes, in the target folder
};

struct FolderConversionOptions {
  /// Of the floating-point weights: float32, bfloat16 or float16. Empty: each as it is.
  std::optional<DType> dtype;
  std::uint64_t max_shard_bytes = 5'000'000'000;
  /// Replace a folder that holds an earlier model.
  bool overwrite = false;
  ForeignWeights foreign;
};

struct FolderConversionReport {
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;  ///< of the weights written
  /// Names that shared another tensor's memory in a .bin file and are left out; the model ties
  /// them.
  std::vector<std::string> tied;
  std::vector<std::string> files;  ///< all names in the folder
};

/// Writes the model folder `source` (safetensors or .bin, one file or shards, or files of a
/// plugin's format) as the folder `target`: safetensors in other types and shards, or such a file,
/// config.json with that type, everything else as it is. Weights are converted piece by piece;
/// memory does not grow with the model. The folder appears whole or not at all. Throws
/// Error(kBadInput), Error(kUnsupported) for another type of quantised weights.
FolderConversionReport convert_folder(const std::string& source, const std::string& target,
                                      const FolderConversionOptions& options);

}  // namespace espalier::formats

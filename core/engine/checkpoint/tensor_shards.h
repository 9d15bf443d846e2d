#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint_part.h"
#include "espalier/base/safetensors.h"
#include "espalier/base/value.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// What a rank holds of a tensor that is spread over ranks.
struct ShardedTensor {
  std::string name;
  std::vector<std::int64_t> shape;  ///< of the whole
  at::Tensor local;
  ParameterLayout layout;
};

/// The file of this rank's pieces, views of the tensors, with where they lie in the whole in its
/// metadata. `checkpoint_id` is the same in all files of a checkpoint.
CheckpointFile shards_file(const std::string& name, const std::vector<ShardedTensor>& tensors,
                           const std::string& checkpoint_id);

/// The manifest of `files` in `folder`: every tensor with its pieces and the file of each. Throws
/// Error(kInternal) when the pieces of a tensor do not cover it exactly once.
Value make_manifest(const std::string& folder, const std::vector<std::string>& files,
                    const std::string& checkpoint_id);

/// Tensors of a checkpoint that any number of ranks wrote, one included; only what is asked for is
/// read. Every mistake of its files is reported at once when it is opened. Tensors are named
/// "model/<parameter>", "optimizer/<state>.<parameter>" and "average/<parameter>".
class ShardReader {
 public:
  /// Throws Error(kBadInput) for files that are missing, damaged, or of another checkpoint.
  explicit ShardReader(const std::string& folder);

  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// Whether there is a tensor whose name begins so.
  bool contains_any(const std::string& prefix) const;
  /// How a tensor is stored; Error(kBadInput) when it is not there.
  at::ScalarType dtype(const std::string& name) const;
  /// Throws Error(kBadInput) when the tensor is not there or has another shape or dtype.
  void check(const std::string& name, const std::vector<std::int64_t>& shape,
             at::ScalarType dtype) const;
  /// Fills the local pieces, of whichever pieces were stored. Throws Error(kBadInput) when the
  /// tensor is not there or has another shape or dtype.
  void read(const ShardedTensor& into) const;

 private:
  struct Piece {
    std::string file;
    std::string key;  ///< of the tensor in the file
    std::vector<std::int64_t> offset;
    std::vector<std::int64_t> extent;
  };
  struct Stored {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::vector<Piece> pieces;
  };

  void open_manifest(const std::string& path);
  void open_files(const Value& manifest);
  void open_whole(const char* file, const char* prefix);
  const Stored& stored(const std::string& name) const;
  void copy_overlap(const Piece& stored, const ShardPiece& wanted, const at::Tensor& local) const;

  std::string folder_;
  std::map<std::string, Stored> tensors_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
};

inline constexpr const char* kManifestName = "manifest.json";
// Files of a checkpoint that one process wrote, and how their tensors are called among all.
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
inline constexpr const char* kAverageFile = "average.safetensors";
inline constexpr const char* kModelPrefix = "model/";
inline constexpr const char* kOptimizerPrefix = "optimizer/";
inline constexpr const char* kAveragePrefix = "average/";

}  // namespace espalier

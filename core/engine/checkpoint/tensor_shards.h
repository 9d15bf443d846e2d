#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

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

/// The part of a tensor from `offset` on, of size `extent`; a view.
at::Tensor box(const at::Tensor& tensor, const std::vector<std::int64_t>& offset,
               const std::vector<std::int64_t>& extent);

/// Writes this rank's pieces into one safetensors file, with where they lie in the whole in its
/// metadata. `checkpoint_id` is the same in all files of a checkpoint. Throws Error(kIo).
void write_shards(const std::string& path, const std::vector<ShardedTensor>& tensors,
                  const std::string& checkpoint_id);

/// The manifest of `files` in `folder`: every tensor with its pieces and the file of each. Throws
/// Error(kInternal) when the pieces of a tensor do not cover it exactly once.
Value make_manifest(const std::string& folder, const std::vector<std::string>& files,
                    const std::string& checkpoint_id);

/// Tensors of a checkpoint that any number of ranks wrote. Every mistake of its files is reported
/// at once when it is opened.
class ShardReader {
 public:
  /// Throws Error(kBadInput) for files that are missing, damaged, or of another checkpoint.
  explicit ShardReader(const std::string& folder);

  std::vector<std::string> names() const;
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

  void open_files(const Value& manifest);
  void copy_overlap(const Piece& stored, const ShardPiece& wanted, const at::Tensor& local) const;

  std::string folder_;
  std::map<std::string, Stored> tensors_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
};

inline constexpr const char* kManifestName = "manifest.json";

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// Where the values of a model's parameters come from: its files, or for those that these have not,
/// how they begin. Parts are read without the rest.
class WeightSource {
 public:
  /// `storage`: dtype of a whole model; `as_stored`: unless the checkpoint has another for a
  /// parameter. Without a checkpoint all begin anew. `parts` outlives the source.
  WeightSource(const ModelParts& parts, std::shared_ptr<const CheckpointReader> checkpoint,
               at::ScalarType storage, bool as_stored, std::uint64_t seed);

  /// How the parameter with an index into the model's is to be stored.
  at::ScalarType dtype(std::size_t index) const { return dtypes_[index]; }
  /// Whether it lies in the checkpoint.
  bool is_stored(std::size_t index) const { return stored_[index]; }
  /// The whole parameter, on the CPU.
  at::Tensor read(std::size_t index) const;
  /// A box of it. Reads no other byte where it lies in the checkpoint.
  at::Tensor read(std::size_t index, const ShardPiece& piece) const;
  /// Of the checkpoint's tensors, so far.
  std::int64_t bytes_read() const {
    return checkpoint_ == nullptr ? 0 : static_cast<std::int64_t>(checkpoint_->bytes_requested());
  }

 private:
  const ModelParts& parts_;
  std::shared_ptr<const CheckpointReader> checkpoint_;
  std::uint64_t seed_;
  std::vector<at::ScalarType> dtypes_;
  std::vector<bool> stored_;
};

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// A run of one dimension with a meaning: `size` indices along logical axis `axis` ("vocab",
/// "embed", "heads", "kv_heads", "mlp", "experts", ...). `unit` indices belong together and must
/// not be cut apart (head_dim for heads). A fused qkv projection has three segments in its output
/// dimension.
struct AxisSegment {
  std::string axis;
  std::int64_t size = 0;
  std::int64_t unit = 1;
};

/// One dimension of a parameter: its segments in order.
struct Dimension {
  std::vector<AxisSegment> segments;

  std::int64_t size() const {
    std::int64_t total = 0;
    for (const AxisSegment& segment : segments) total += segment.size;
    return total;
  }
};

/// How a parameter starts when no checkpoint gives it a value.
struct Initialisation {
  enum class Kind {
    kNormal,
    kZeros,
    kOnes,
    kUniform,   ///< between -bound and bound
    kLogIndex,  ///< log(1 + i) along the last dimension (the state matrix of Mamba)
    kTimeStep,  ///< softplus^-1 of a time step drawn log-uniformly from [minimum, maximum] (Mamba)
  };
  Kind kind = Kind::kZeros;
  double standard_deviation = 0.0;  ///< for kNormal; mean 0
  double bound = 0.0;               ///< for kUniform
  double minimum = 0.0;             ///< for kTimeStep, and its floor
  double maximum = 0.0;
};

/// All that others need to know of a parameter: strategies shard by axes, adapters and optimizers
/// select by name.
struct ParameterSpec {
  std::string name;  ///< the Hugging Face name, "model.layers.0.mlp.up_proj.weight"
  std::vector<Dimension> dimensions;
  Initialisation initialisation;
  /// Saved and loaded with the weights, in float32 whatever their dtype, and never trained (the
  /// bias by which a router corrects its choice).
  bool buffer = false;

  std::vector<std::int64_t> shape() const {
    std::vector<std::int64_t> sizes;
    for (const Dimension& dimension : dimensions) sizes.push_back(dimension.size());
    return sizes;
  }
};

/// A weight of a model. `value` is what the optimizer updates (the autograd leaf; with a sharding
/// strategy the local shard); `computed()` is what modules multiply with. Both are the same tensor
/// until a strategy puts a gathered view over it, or an adapter a copy in its place. Not thread
/// safe.
class ESPALIER_API Parameter {
 public:
  /// Starts on the meta device, of dtype float32.
  explicit Parameter(ParameterSpec spec);

  const ParameterSpec& spec() const { return spec_; }
  const std::string& name() const { return spec_.name; }

  const at::Tensor& value() const { return value_; }
  /// Replaces the leaf; keeps `trainable`. Shape may differ from the spec only under a sharding
  /// strategy.
  void set_value(at::Tensor value);

  const at::Tensor& computed() const {
    if (substitute_ != nullptr) return substitute_->computed();
    return view_.defined() ? view_ : value_;
  }
  /// Lays a gathered tensor over the leaf, or takes it away when undefined.
  void set_view(at::Tensor view) { view_ = std::move(view); }
  /// Undefined where nothing lies over the leaf.
  const at::Tensor& view() const { return view_; }

  /// Another parameter of the same shape that modules multiply with instead (a copy that an adapter
  /// trains), or nullptr.
  void set_substitute(std::shared_ptr<const Parameter> substitute) {
    substitute_ = std::move(substitute);
  }

  bool trainable() const { return trainable_; }
  /// A buffer stays untrained.
  void set_trainable(bool trainable);

 private:
  ParameterSpec spec_;
  at::Tensor value_;
  at::Tensor view_;
  std::shared_ptr<const Parameter> substitute_;
  bool trainable_ = true;
};

/// One tensor of a checkpoint file as a box of a parameter. Disk dimension j runs along parameter
/// dimension `dimensions[j]`, so that a list out of order is a transpose; parameter dimensions that
/// are not listed have extent 1 in the box (stacked experts). `offset` is where the box starts in
/// the parameter (concatenation), `disk_offset` where it starts in the disk tensor (split).
struct DiskTensor {
  std::string name;
  std::vector<std::int64_t> dimensions;
  std::vector<std::int64_t> offset;       ///< per parameter dimension
  std::vector<std::int64_t> extent;       ///< per parameter dimension
  std::vector<std::int64_t> disk_offset;  ///< per disk dimension; empty: all 0
};

/// How a parameter is laid out on disk in one naming scheme. Invertible: the boxes tile the
/// parameter.
struct DiskMapping {
  std::string parameter;
  std::vector<DiskTensor> parts;
};

/// The usual case: one tensor of the same name and layout; `transposed` for [in, out] weights
/// (Conv1D).
ESPALIER_API DiskMapping identity_mapping(const ParameterSpec& spec, bool transposed = false);

/// A parameter whose first dimension counts tensors of the checkpoint (experts, heads with a norm
/// of their own): index i is the tensor `names[i]`, which has the other dimensions.
ESPALIER_API DiskMapping stacked_mapping(const ParameterSpec& spec,
                                         const std::vector<std::string>& names);

}  // namespace espalier

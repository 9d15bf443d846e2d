#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/communicator.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Which rows of a step a rank computes: the step is cut into `count` shares, and ranks with the
/// same `index` see the same rows.
struct DataShare {
  int index = 0;
  int count = 1;
};

/// A box of a whole parameter, and where it lies in what a rank holds of it; per dimension.
struct ShardPiece {
  std::vector<std::int64_t> offset;
  std::vector<std::int64_t> extent;
  std::vector<std::int64_t> local_offset;
};

/// What a rank holds of a parameter.
struct ParameterLayout {
  std::vector<ShardPiece> pieces;  ///< without overlap; none where the rank holds nothing of it
  bool writes = true;  ///< of the ranks that hold the same, the one that writes it to checkpoints
};

/// Spreads a model over ranks. Acts on parameter specs, blocks and seats, never on a model class.
/// Order of the calls: set_up, apply, then for each step begin_micro_batch before each of its
/// forward passes (all ranks have equally many), finish_gradients after the last backward pass,
/// gradient_norm, and parameters_changed after the update. Methods marked "collective" are called
/// by all ranks together. With a world of one rank the model trains as without a strategy.
class ESPALIER_API ParallelStrategy {
 public:
  static constexpr InterfaceId kInterface{"ParallelStrategy", 2};

  ParallelStrategy() = default;
  ParallelStrategy(const ParallelStrategy&) = delete;
  ParallelStrategy& operator=(const ParallelStrategy&) = delete;
  virtual ~ParallelStrategy();

  /// Arranges the ranks; collective. Throws Error(kBadInput) with every size that does not fit.
  /// `world` outlives the strategy.
  virtual void set_up(World& world);
  /// What this strategy can't do with the model, which is still on the meta device; a problem for
  /// each.
  virtual void check(Model& model, ProblemList& problems);
  virtual DataShare data_share() const;

  /// Takes over a model whose parameters have values, the same on all ranks that read the same
  /// files: may replace leaves by shards and set the block runner. Collective.
  virtual void apply(Model& model) = 0;
  /// Whether `apply` looks at no value: it may then be given the model's own parameters on the meta
  /// device, of their dtype. The host sets leaves of the same shape afterwards, with what `layout`
  /// says that the rank holds, so that no rank ever has the whole model.
  virtual bool applies_without_values() const { return false; }
  /// After `apply`: where the leaf of a parameter belongs, for a model that computes on `device`.
  virtual at::Device leaf_device(const Parameter& parameter, at::Device device) const;
  /// Announces forward and backward pass of one micro-batch. Gradients of all but the `last` of a
  /// step may stay where they are.
  virtual void begin_micro_batch(bool last);
  /// Called after the backward pass of a step's last micro-batch: the gradients that parameters
  /// hold are then those of the whole step, of the shard where it holds one. Collective.
  virtual void finish_gradients(Model& model) = 0;
  /// L2 norm of the gradients of all parameters of the whole model, in float64; collective.
  virtual double gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters);
  /// Adds up numbers [n] float64 over ranks with different data, in place; collective.
  virtual void sum_over_data(const at::Tensor& numbers);
  /// Leaves have new values: what was gathered from them is out of date.
  virtual void parameters_changed();

  /// What this rank holds; everything, and rank 0 writes, unless overridden.
  virtual ParameterLayout layout(const Parameter& parameter) const;
  /// The full value of a parameter on every rank, for export; collective.
  virtual at::Tensor full_value(const Parameter& parameter) = 0;
  /// The whole of a tensor that is cut as the parameter is (its gradient), of which this rank has
  /// `local`, on every rank; collective. Strategies that cut parameters override it: the default is
  /// for those that are held whole, Error(kUnsupported) for others.
  virtual at::Tensor whole(const Parameter& parameter, const at::Tensor& local);

 protected:
  /// After set_up.
  World& world() const { return *world_; }

 private:
  World* world_ = nullptr;
};

/// sqrt of the sum of squares of the gradients that parameters hold here, in float64; a gradient of
/// 6e31 does not overflow.
ESPALIER_API double local_gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters);

/// The layout of a parameter that a rank holds whole.
ESPALIER_API ParameterLayout whole_layout(const Parameter& parameter, bool writes);

}  // namespace espalier

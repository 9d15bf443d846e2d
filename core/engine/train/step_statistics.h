#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/train/activation_observer.h"
#include "espalier/base/value.h"
#include "espalier/sdk/communicator.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// Sums over some tensors.
struct TensorSums {
  double squares = 0.0;
  double largest = 0.0;  ///< absolute value
  double zeros = 0.0;
  double count = 0.0;

  void add(const at::Tensor& tensor);
};

/// Norms, largest values and shares of zeros of one step, by block of the model: of the gradients
/// before clipping and, where asked for, of what flows into the linears. Of all ranks together;
/// gradients are counted once however many ranks hold them.
class StepStatistics {
 public:
  /// Watches the model's activations from now on. `strategy` may be nullptr.
  StepStatistics(Model& model, World& world, const ParallelStrategy* strategy, bool activations);

  /// Gradients as the parameters hold them.
  void take_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters);
  /// {"gradients": {block: {"norm", "max", "zeros"}}, "activations": {block: {"rms", "max",
  /// "zeros"}}}. Called by all ranks.
  Table result();

 private:
  std::string block_of(const std::string& name) const;
  void sum_over_ranks(std::map<std::string, TensorSums>& sums) const;

  World& world_;
  const ParallelStrategy* strategy_;
  std::vector<std::string> blocks_;
  std::map<std::string, TensorSums> gradients_;
  std::map<std::string, TensorSums> activations_;
  std::optional<ActivationObserver> observer_;
};

}  // namespace espalier

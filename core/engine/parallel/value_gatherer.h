#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// Lets rank 0 ask for whole parameters, one at a time and in any order, while the others serve: no
/// rank ever holds more of the model than its part and one parameter.
class ValueGatherer {
 public:
  ValueGatherer(World& world, ParallelStrategy& strategy,
                const std::vector<std::shared_ptr<Parameter>>& parameters)
      : world_(world), strategy_(strategy), parameters_(parameters) {}

  /// On rank 0: the whole of parameter `index`. The last one asked for is kept.
  at::Tensor value(std::size_t index);
  /// Of one of the parameters.
  at::Tensor value(const Parameter& parameter);
  /// On rank 0: lets the others go.
  void finish();
  /// On the others: returns when rank 0 has finished.
  void serve();

 private:
  std::int64_t tell(std::int64_t index);

  World& world_;
  ParallelStrategy& strategy_;
  const std::vector<std::shared_ptr<Parameter>>& parameters_;
  std::int64_t kept_index_ = -1;
  at::Tensor kept_;
};

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// Lets rank 0 ask for whole parameters, one at a time and in any order, while the others serve: no
/// rank ever holds more of the model than its part and one parameter.
class ValueGatherer {
 public:
  ValueGatherer(World& world, ParallelStrategy& strategy,
                std::vector<std::shared_ptr<Parameter>> parameters)
      : world_(world), strategy_(strategy), parameters_(std::move(parameters)) {}

  /// On rank 0: the whole of one of the parameters.
  at::Tensor value(const Parameter& parameter);
  /// On rank 0: lets the others go.
  void finish();
  /// On the others: returns when rank 0 has finished.
  void serve();

 private:
  std::int64_t tell(std::int64_t index);

  World& world_;
  ParallelStrategy& strategy_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
};

}  // namespace espalier

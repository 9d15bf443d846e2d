#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/sdk/parallel_strategy.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// The exponential moving average of the weights that are trained, of what this rank holds of them,
/// in float32: average = decay * average + (1 - decay) * weights after each step. It begins with
/// the weights as they are.
class ESPALIER_API AverageWeights {
 public:
  AverageWeights(std::vector<std::shared_ptr<Parameter>> parameters, double decay);
  AverageWeights(const AverageWeights&) = delete;
  AverageWeights& operator=(const AverageWeights&) = delete;

  /// After a step.
  void update();
  /// Begins anew with the weights as they are.
  void reset();

  const std::vector<std::shared_ptr<Parameter>>& parameters() const { return parameters_; }
  /// float32, one for each of `parameters`, laid out like it.
  const std::vector<at::Tensor>& averages() const { return averages_; }

 private:
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<at::Tensor> averages_;
  double decay_;
};

/// While it lives the parameters hold their averages; afterwards the bits that they had. Makes a
/// copy of all of them.
class ESPALIER_API AverageInPlace {
 public:
  /// `strategy` is told of the change; may be nullptr.
  AverageInPlace(const AverageWeights& average, ParallelStrategy* strategy);
  AverageInPlace(const AverageInPlace&) = delete;
  AverageInPlace& operator=(const AverageInPlace&) = delete;
  ~AverageInPlace();

 private:
  const AverageWeights& average_;
  ParallelStrategy* strategy_;
  std::vector<at::Tensor> weights_;
};

}  // namespace espalier

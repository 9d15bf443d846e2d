#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Spreads a model over ranks. Acts on parameter specs, blocks and seats, never on a model class.
class ESPALIER_API ParallelStrategy {
 public:
  static constexpr InterfaceId kInterface{"ParallelStrategy", 1};

  ParallelStrategy() = default;
  ParallelStrategy(const ParallelStrategy&) = delete;
  ParallelStrategy& operator=(const ParallelStrategy&) = delete;
  virtual ~ParallelStrategy();

  /// Takes over a model whose parameters have values: may replace leaves by shards and set the
  /// block runner.
  virtual void apply(Model& model) = 0;
  /// Called after the backward pass of a step's last micro-batch: gradients are then those of the
  /// whole step.
  virtual void finish_gradients(Model& model) = 0;
  /// The full value of a parameter, for export.
  virtual at::Tensor full_value(const Parameter& parameter) = 0;
};

}  // namespace espalier

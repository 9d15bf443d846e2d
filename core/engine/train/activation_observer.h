#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "espalier/nn/linear.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Sees what flows into and out of every linear of a model but the head while it lives; changes
/// nothing that is computed. Works under any strategy, where it sees what this rank computes. A
/// block that is computed again in the backward pass is seen twice.
class ActivationObserver {
 public:
  /// input [rows, in], output [rows, out].
  using See = std::function<void(const nn::Linear& linear, const at::Tensor& input,
                                 const at::Tensor& output)>;

  /// The model outlives this object.
  ActivationObserver(Model& model, See see);
  ActivationObserver(const ActivationObserver&) = delete;
  ActivationObserver& operator=(const ActivationObserver&) = delete;
  ~ActivationObserver();

 private:
  std::vector<nn::Linear*> linears_;
  std::shared_ptr<nn::LinearExtension> extension_;
};

}  // namespace espalier

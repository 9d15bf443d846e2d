#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/weight_storage.h"

namespace espalier {

/// Holds weights of linears in fewer bits (recipe section `quantization`). The host asks for each
/// linear of a model but its output head, while weights are read, so that the dense model is never
/// in memory whole. One thread at a time; the storage lives on without the quantizer.
class ESPALIER_API Quantizer {
 public:
  static constexpr InterfaceId kInterface{"Quantizer", 2};

  Quantizer() = default;
  Quantizer(const Quantizer&) = delete;
  Quantizer& operator=(const Quantizer&) = delete;
  virtual ~Quantizer();

  /// Storage for `weight` [out, in] of `linear`, whose parameter is on the meta device; gives the
  /// parameter what stands for it from then on (any dtype, the same shape) and freezes it. nullptr:
  /// this weight stays dense.
  virtual std::unique_ptr<nn::WeightStorage> hold(nn::Linear& linear,
                                                  const at::Tensor& weight) const = 0;
  /// Whether `hold` also takes a weight on the meta device, and then gives the storage components
  /// there, of the shapes and dtypes that values would give: of a model that ranks share each then
  /// holds its part alone.
  virtual bool holds_without_values() const { return false; }
};

}  // namespace espalier

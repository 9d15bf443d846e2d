#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/nn/weight_storage.h"

namespace espalier {

/// A weight [out, in] as 8-bit integers with a scale for each output channel: row i is scales[i]
/// codes[i], scales[i] = max |row i| / 127. Memory: a byte an element. A product
/// converts some rows of codes at a time to the dtype of its input and scales its outputs; for the
/// backward pass nothing is kept.
class Int8Weight final : public nn::WeightStorage {
 public:
  /// The weight's parameter becomes its codes, frozen.
  Int8Weight(std::shared_ptr<Parameter> parameter, const at::Tensor& weight);

  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override;
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override;
  at::Tensor dense(at::ScalarType dtype) const override;
  std::vector<std::shared_ptr<Parameter>> components() const override { return {codes_, scales_}; }
  std::int64_t bytes() const override;

 private:
  std::shared_ptr<Parameter> codes_;   ///< [out, in] int8
  std::shared_ptr<Parameter> scales_;  ///< [out] float32
};

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/sdk/parameter.h"

namespace espalier::nn {

/// How a weight is held: dense here; a quantizer puts int8, nf4 or fp8 in its place. Names and
/// modules stay the same. Belongs to its module, and changes nothing after construction: its
/// components get other values from outside, between passes. Results carry gradients to `input`,
/// and to components that are trained.
class ESPALIER_API WeightStorage {
 public:
  WeightStorage() = default;
  WeightStorage(const WeightStorage&) = delete;
  WeightStorage& operator=(const WeightStorage&) = delete;
  virtual ~WeightStorage();

  /// input [rows, in] x weight^T -> [rows, out], in the input's dtype. `bias` may be undefined.
  virtual at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const = 0;
  /// Rows of the weight: ids [n] -> [n, columns], in `dtype`.
  virtual at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const = 0;
  /// The whole weight [out, in] in `dtype`; a copy where it is not held so.
  virtual at::Tensor dense(at::ScalarType dtype) const = 0;
  /// The tensors that make up the weight, always in one order; a dense one has its single
  /// parameter.
  virtual std::vector<std::shared_ptr<Parameter>> components() const = 0;
  /// Bytes that the weight holds.
  virtual std::int64_t bytes() const = 0;
};

/// One parameter in any floating dtype. Where the storage dtype differs from the compute dtype it
/// is converted for each product and again in the backward pass, so that no converted copy lives
/// between the two.
class ESPALIER_API DenseWeight final : public WeightStorage {
 public:
  explicit DenseWeight(std::shared_ptr<Parameter> weight) : weight_(std::move(weight)) {}

  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override;
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override;
  at::Tensor dense(at::ScalarType dtype) const override;
  std::vector<std::shared_ptr<Parameter>> components() const override { return {weight_}; }
  std::int64_t bytes() const override;

 private:
  std::shared_ptr<Parameter> weight_;
};

}  // namespace espalier::nn

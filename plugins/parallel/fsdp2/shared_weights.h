#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "espalier/nn/weight_storage.h"
#include "espalier/sdk/communicator.h"
#include "sharing_plan.h"

namespace espalier {

/// The whole of a tensor of shape `shape` from what each rank holds by `cut`; collective. No
/// gradient.
at::Tensor whole_of_cut(const at::Tensor& local, const TensorCut& cut,
                        const std::vector<std::int64_t>& shape, Communicator& ranks);

/// Moves of features between ranks. The communicator outlives the graph.
namespace columns {

/// [rows, this rank's columns] -> [rows, all columns], to be computed with in the same way on every
/// rank; backward this rank's columns.
at::Tensor join(const at::Tensor& own, const TensorCut& cut, Communicator& ranks);
/// All columns, the same on every rank -> this rank's; backward a gathering.
at::Tensor cut(const at::Tensor& x, const TensorCut& cut, Communicator& ranks);

}  // namespace columns

/// A weight whose products are parts of a sum: the bias is added by one rank alone.
class PartialSumWeight final : public nn::WeightStorage {
 public:
  PartialSumWeight(std::unique_ptr<nn::WeightStorage> inner, bool adds_bias)
      : inner_(std::move(inner)), adds_bias_(adds_bias) {}
  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override;
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override;
  at::Tensor dense(at::ScalarType dtype) const override { return inner_->dense(dtype); }
  std::vector<std::shared_ptr<Parameter>> components() const override {
    return inner_->components();
  }
  std::int64_t bytes() const override { return inner_->bytes(); }

 private:
  std::unique_ptr<nn::WeightStorage> inner_;
  bool adds_bias_;
};

/// A table of which each rank has a run of rows: a rank looks up what it has, zeros stand for the
/// rest, and the sum over the ranks is whole. `dense` gathers.
class RowsOfRank final : public nn::WeightStorage {
 public:
  RowsOfRank(std::unique_ptr<nn::WeightStorage> inner, TensorCut cut,
             std::shared_ptr<Parameter> weight, std::shared_ptr<Communicator> ranks)
      : inner_(std::move(inner)),
        cut_(std::move(cut)),
        weight_(std::move(weight)),
        ranks_(std::move(ranks)) {}
  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override;
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override;
  at::Tensor dense(at::ScalarType dtype) const override;
  std::vector<std::shared_ptr<Parameter>> components() const override {
    return inner_->components();
  }
  std::int64_t bytes() const override { return inner_->bytes(); }

 private:
  std::unique_ptr<nn::WeightStorage> inner_;
  TensorCut cut_;
  std::shared_ptr<Parameter> weight_;
  std::shared_ptr<Communicator> ranks_;
};

}  // namespace espalier

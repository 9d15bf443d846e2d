#include "espalier/nn/expert_dispatcher.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

namespace espalier::nn {

ExpertDispatcher::~ExpertDispatcher() = default;

at::Tensor LocalDispatcher::run(const at::Tensor& hidden, const Routing& routing,
                                std::int64_t num_experts, const ExpertFunction& experts) {
  const std::int64_t k = routing.experts.size(1);
  const at::Tensor chosen = routing.experts.flatten();                      // [tokens * k]
  const at::Tensor order = at::argsort(chosen, /*stable=*/true, 0, false);  // row -> choice
  at::Tensor place = at::empty_like(order);                                 // choice -> row
  place.scatter_(0, order, at::arange(order.size(0), order.options()));
  at::Tensor offsets = at::zeros({num_experts + 1}, at::TensorOptions().dtype(at::kLong));
  offsets.narrow(0, 1, num_experts).copy_(at::bincount(chosen, {}, num_experts).cumsum(0));

  const at::Tensor rows = at::index_select(hidden, 0, order.div(k, "floor"));
  const at::Tensor answers = experts(rows, offsets);
  const at::Tensor by_token = at::index_select(answers, 0, place).unflatten(0, {-1, k});
  return (by_token * routing.weights.unsqueeze(-1)).sum(1).to(hidden.scalar_type());
}

}  // namespace espalier::nn

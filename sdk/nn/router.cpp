#include "espalier/nn/router.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <tuple>

namespace espalier::nn {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
constexpr double kNoDivisionByZero = 1e-20;
constexpr std::int64_t kScoresOfAGroup = 2;

}  // namespace

Router::Router(ModuleScope scope, const RouterSpec& spec, std::int64_t hidden_size,
               double initial_standard_deviation)
    : spec_(spec) {
  const Dimension experts{{{"experts", spec.num_experts, 1}}};
  const Dimension embed{{{"embed", hidden_size, 1}}};
  const Initialisation normal{Initialisation::Kind::kNormal, initial_standard_deviation};
  weight_ = scope.parameter("weight", {experts, embed}, normal);
  if (spec.bias) bias_ = scope.parameter("bias", {experts}, normal);
  if (spec.correction_bias) {
    ParameterSpec buffer{scope.qualified("e_score_correction_bias"), {experts}, {}};
    buffer.buffer = true;
    DiskMapping mapping = identity_mapping(buffer);
    correction_ = scope.parameter(buffer, std::move(mapping));
  }
}

at::Tensor Router::choose_by_sigmoid(const at::Tensor& scores) const {
  at::Tensor choice = scores.detach();  // [tokens, experts]
  if (correction_) choice = choice + correction_->computed();
  if (spec_.n_group > 1) {
    const at::Tensor grouped = choice.unflatten(-1, {spec_.n_group, -1});
    const at::Tensor group_scores =
        std::get<0>(grouped.topk(std::min(kScoresOfAGroup, grouped.size(-1)), -1)).sum(-1);
    const at::Tensor best = std::get<1>(group_scores.topk(spec_.topk_group, -1));
    const at::Tensor kept =
        at::zeros_like(group_scores, group_scores.options().dtype(at::kBool)).scatter(1, best, 1);
    choice = grouped.masked_fill(kept.logical_not().unsqueeze(-1), kMinusInfinity).flatten(-2, -1);
  }
  return std::get<1>(choice.topk(spec_.num_experts_per_tok, -1));
}

Routing Router::route(const at::Tensor& hidden) const {
  const at::ScalarType dtype =
      spec_.kind == RouterSpec::Kind::kSigmoid ? at::kFloat : hidden.scalar_type();
  Routing routing;
  routing.logits = at::linear(hidden.to(dtype), weight_->computed().to(dtype),
                              bias_ ? bias_->computed().to(dtype) : at::Tensor());
  const std::int64_t k = spec_.num_experts_per_tok;
  switch (spec_.kind) {
    case RouterSpec::Kind::kSoftmax:
      std::tie(routing.weights, routing.experts) =
          at::softmax(routing.logits, -1, at::kFloat).topk(k, -1);
      break;
    case RouterSpec::Kind::kTopSoftmax:
      std::tie(routing.weights, routing.experts) = routing.logits.topk(k, -1);
      routing.weights = at::softmax(routing.weights, -1);
      break;
    case RouterSpec::Kind::kSigmoid: {
      const at::Tensor scores = at::sigmoid(routing.logits);
      routing.experts = choose_by_sigmoid(scores);
      routing.weights = scores.gather(1, routing.experts);
    }
  }
  if (spec_.normalised) {
    at::Tensor total = routing.weights.sum(-1, /*keepdim=*/true);
    if (spec_.kind == RouterSpec::Kind::kSigmoid) total = total + kNoDivisionByZero;
    routing.weights = routing.weights / total;
  }
  if (spec_.scaling_factor != 1.0) routing.weights = routing.weights * spec_.scaling_factor;
  return routing;
}

}  // namespace espalier::nn

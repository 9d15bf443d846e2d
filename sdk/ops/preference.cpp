#include "espalier/ops/preference.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/relu.h>

namespace espalier::ops {

at::Tensor preference_losses(const at::Tensor& margins, const PreferenceOptions& options) {
  const at::Tensor scaled = margins * options.beta;
  switch (options.shape) {
    case PreferenceShape::kHinge: return at::relu(1.0 - scaled);
    case PreferenceShape::kIpo: return (margins - 1.0 / (2 * options.beta)).square();
    case PreferenceShape::kSigmoid: break;
  }
  at::Tensor losses = at::log_sigmoid(scaled) * -(1.0 - options.label_smoothing);
  if (options.label_smoothing > 0)
    losses = losses - at::log_sigmoid(-scaled) * options.label_smoothing;
  return losses;
}

at::Tensor log_odds_preference(const at::Tensor& chosen, const at::Tensor& rejected) {
  // log(p / (1 - p)) with log(1 - p) = log1p(-exp(log p)).
  const auto log_odds = [](const at::Tensor& log_p) {
    return log_p - at::log1p(log_p.exp().neg());
  };
  return at::log_sigmoid(log_odds(chosen) - log_odds(rejected));
}

}  // namespace espalier::ops

#include "espalier/ops/distillation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logaddexp.h>

#include <cmath>

#include "espalier/sdk/batch.h"

namespace espalier::ops {
namespace {

/// KL(p || q) of each row, from log probabilities.
at::Tensor kl(const at::Tensor& log_p, const at::Tensor& log_q) {
  return (log_p.exp() * (log_p - log_q)).sum(-1);
}

}  // namespace

at::Tensor distillation(const at::Tensor& student, const at::Tensor& teacher,
                        const at::Tensor& labels, Divergence divergence, double temperature) {
  const at::Tensor rows = labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
  const auto log_probabilities = [&](const at::Tensor& logits) {
    return at::log_softmax(logits.index_select(0, rows).to(at::kFloat) / temperature, -1);
  };
  const at::Tensor log_q = log_probabilities(student);
  const at::Tensor log_p = log_probabilities(teacher.detach());
  at::Tensor per_row;
  switch (divergence) {
    case Divergence::kForward: per_row = kl(log_p, log_q); break;
    case Divergence::kReverse: per_row = kl(log_q, log_p); break;
    case Divergence::kJensenShannon: {
      const at::Tensor log_m = at::logaddexp(log_p, log_q) - std::log(2.0);
      per_row = (kl(log_p, log_m) + kl(log_q, log_m)) * 0.5;
      break;
    }
  }
  return per_row.sum(at::kDouble).to(at::kFloat) * (temperature * temperature);
}

}  // namespace espalier::ops

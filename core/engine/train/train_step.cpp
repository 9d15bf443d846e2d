#include "engine/train/train_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "espalier/base/error.h"

namespace espalier {
namespace {

/// Switches an adapter off while it lives, and on again where it was.
class AdapterOff {
 public:
  explicit AdapterOff(Adapter* adapter)
      : adapter_(adapter != nullptr && adapter->enabled() ? adapter : nullptr) {
    if (adapter_ != nullptr) adapter_->set_enabled(false);
  }
  AdapterOff(const AdapterOff&) = delete;
  AdapterOff& operator=(const AdapterOff&) = delete;
  ~AdapterOff() {
    if (adapter_ != nullptr) adapter_->set_enabled(true);
  }

 private:
  Adapter* adapter_;
};

/// `reference` passes run without gradients and with the adapter switched off.
ObjectiveContext make_context(const TrainingParts& parts) {
  return {parts.model, parts.loss,
          [adapter = parts.adapter](const std::function<void()>& work) {
            const at::NoGradGuard no_grad;
            const AdapterOff off(adapter);
            work();
          },
          parts.teacher, parts.adapter != nullptr};
}

void begin_pass(const TrainingParts& parts, std::int64_t step, std::size_t micro_batch,
                bool training) {
  if (parts.adapter != nullptr)
    parts.adapter->begin_pass({parts.seed, step, static_cast<std::int64_t>(micro_batch), training});
}

/// Sum of the terms of one micro-batch, each with its divisor; their values are added to `metrics`.
at::Tensor weigh_terms(const std::vector<ObjectiveTerm>& terms, double step_weight,
                       std::size_t batches, StepMetrics& metrics) {
  at::Tensor total;
  for (const ObjectiveTerm& term : terms) {
    const double divisor =
        term.averaged ? std::max(step_weight, 1.0) : static_cast<double>(batches);
    const at::Tensor share = term.sum * (term.scale / divisor);
    metrics.terms[term.name] += share.item<double>();
    if (term.measured_only) continue;
    total = total.defined() ? total + share : share;
  }
  return total;
}

void require_finite(double value, const char* what, std::int64_t step) {
  if (std::isfinite(value)) return;
  throw Error(
      Problem{ErrorCode::kCheckFailed,
              std::string("the ") + what + " of step " + std::to_string(step) + " is not finite",
              std::to_string(value), "a finite number", "step " + std::to_string(step),
              "the weights are those before this step; try a lower lr, clipping, or look at the "
              "data of this step"});
}

}  // namespace

StepMetrics train_step(const TrainingParts& parts, const StepBatches& batches, std::int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.epoch = batches.epoch;
  double step_weight = 0;
  for (const Batch& batch : batches.batches) {
    step_weight += parts.objective.weight(batch);
    metrics.num_tokens += batch.num_tokens;
    metrics.num_label_tokens += batch.num_label_tokens;
  }
  const ObjectiveContext context = make_context(parts);
  for (std::size_t i = 0; i < batches.batches.size(); ++i) {
    begin_pass(parts, step, i, /*training=*/true);
    const std::vector<ObjectiveTerm> terms = parts.objective.compute(context, batches.batches[i]);
    const at::Tensor total = weigh_terms(terms, step_weight, batches.batches.size(), metrics);
    if (!total.defined()) continue;
    metrics.loss += total.item<double>();
    if (total.requires_grad()) total.backward();
  }
  if (parts.strategy != nullptr) parts.strategy->finish_gradients(parts.model);
  metrics.grad_norm = gradient_norm(parts.optimizer.parameters());
  try {
    require_finite(metrics.loss, "loss", step);
    require_finite(metrics.grad_norm, "gradient norm", step);
  } catch (const Error&) {
    parts.optimizer.clear_gradients();
    throw;
  }
  if (parts.max_norm > 0)
    clip_gradients(parts.optimizer.parameters(), metrics.grad_norm, parts.max_norm);
  metrics.lr = parts.lr_scheduler.lr(step - 1, parts.optimizer.base_lr(), parts.total_steps);
  parts.optimizer.step(step, metrics.lr);
  return metrics;
}

StepMetrics evaluate(const TrainingParts& parts, const std::vector<Batch>& batches) {
  const at::NoGradGuard no_grad;
  StepMetrics metrics;
  double weight = 0;
  double sum = 0;
  const ObjectiveContext context = make_context(parts);
  begin_pass(parts, 0, 0, /*training=*/false);
  for (const Batch& batch : batches) {
    weight += parts.objective.weight(batch);
    metrics.num_tokens += batch.num_tokens;
    metrics.num_label_tokens += batch.num_label_tokens;
    for (const ObjectiveTerm& term : parts.objective.compute(context, batch)) {
      if (term.averaged && !term.measured_only) sum += term.sum.item<double>() * term.scale;
    }
  }
  metrics.loss = weight > 0 ? sum / weight : 0.0;
  return metrics;
}

}  // namespace espalier

#include "engine/train/train_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cmath>

#include "engine/memory/caching_allocator.h"
#include "engine/memory/memory_report.h"
#include "engine/train/non_finite.h"
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

void begin_pass(const TrainingParts& parts, std::int64_t step, std::size_t micro_batch,
                bool training) {
  if (parts.adapter != nullptr)
    parts.adapter->begin_pass({parts.seed, step, static_cast<std::int64_t>(micro_batch), training});
}

/// Sum of the terms of one micro-batch, each with its divisor; their values are added to `metrics`.
at::Tensor weigh_terms(const std::vector<ObjectiveTerm>& terms, double step_weight, double batches,
                       bool filler, StepMetrics& metrics) {
  at::Tensor total;
  for (const ObjectiveTerm& term : terms) {
    const double divisor = term.averaged ? std::max(step_weight, 1.0) : batches;
    const at::Tensor share = term.sum * (filler ? 0.0 : term.scale / divisor);
    metrics.terms[term.name] += share.item<double>();
    if (term.measured_only) continue;
    total = total.defined() ? total + share : share;
  }
  return total;
}

/// Adds up over ranks with different data.
void sum_over_data(const TrainingParts& parts, std::initializer_list<double*> numbers,
                   std::map<std::string, double>* terms = nullptr) {
  if (parts.strategy == nullptr) return;
  std::vector<double*> places(numbers);
  if (terms != nullptr) {
    for (auto& [name, value] : *terms) places.push_back(&value);
  }
  at::Tensor sums =
      at::empty({static_cast<std::int64_t>(places.size())}, at::TensorOptions().dtype(at::kDouble));
  for (std::size_t i = 0; i < places.size(); ++i) sums.data_ptr<double>()[i] = *places[i];
  parts.strategy->sum_over_data(sums);
  for (std::size_t i = 0; i < places.size(); ++i) *places[i] = sums.data_ptr<double>()[i];
}

/// Weight, tokens and number of the micro-batches of all ranks.
struct StepWeight {
  double weight = 0;
  double batches = 0;
};

StepWeight weigh_step(const TrainingParts& parts, const std::vector<Batch>& batches,
                      StepMetrics& metrics) {
  StepWeight step;
  double tokens = 0;
  double labels = 0;
  double computed = 0;
  for (const Batch& batch : batches) {
    if (batch.filler) continue;
    step.weight += parts.objective.weight(batch);
    step.batches += 1;
    tokens += static_cast<double>(batch.num_tokens);
    labels += static_cast<double>(batch.num_label_tokens);
    computed += static_cast<double>(parts.model.rows({batch.tensors}));
  }
  sum_over_data(parts, {&step.weight, &step.batches, &tokens, &labels, &computed});
  metrics.num_tokens = std::llround(tokens);
  metrics.num_label_tokens = std::llround(labels);
  metrics.num_computed_tokens = std::llround(computed);
  return step;
}

double norm_of_gradients(const TrainingParts& parts) {
  return parts.strategy == nullptr ? local_gradient_norm(parts.optimizer.parameters())
                                   : parts.strategy->gradient_norm(parts.optimizer.parameters());
}

}  // namespace

ObjectiveContext objective_context(const TrainingParts& parts) {
  return {parts.model, parts.loss,
          [adapter = parts.adapter](const std::function<void()>& work) {
            const at::NoGradGuard no_grad;
            const AdapterOff off(adapter);
            work();
          },
          parts.teacher, parts.adapter != nullptr};
}

void begin_training_pass(const TrainingParts& parts, std::int64_t step, std::size_t number,
                         std::size_t count, bool last) {
  // Numbered through all ranks, so that no two draw the same random numbers.
  const std::size_t first =
      parts.strategy == nullptr
          ? 0
          : static_cast<std::size_t>(parts.strategy->data_share().index) * count;
  begin_pass(parts, step, first + number, /*training=*/true);
  if (parts.strategy != nullptr) parts.strategy->begin_micro_batch(last);
}

StepMetrics train_step(const TrainingParts& parts, const StepBatches& batches, std::int64_t step) {
  const MemoryPurposeScope activations(MemoryPurpose::kActivations);
  StepMetrics metrics;
  metrics.step = step;
  metrics.epoch = batches.epoch;
  const StepWeight step_weight = weigh_step(parts, batches.batches, metrics);
  const ObjectiveContext context = objective_context(parts);
  for (std::size_t i = 0; i < batches.batches.size(); ++i) {
    begin_training_pass(parts, step, i, batches.batches.size(), i + 1 == batches.batches.size());
    const std::vector<ObjectiveTerm> terms = parts.objective.compute(context, batches.batches[i]);
    const at::Tensor total = weigh_terms(terms, step_weight.weight, step_weight.batches,
                                         batches.batches[i].filler, metrics);
    if (!total.defined()) continue;
    metrics.loss += total.item<double>();
    if (total.requires_grad()) total.backward();
  }
  if (parts.strategy != nullptr) parts.strategy->finish_gradients(parts.model);
  count_gradients(parts.optimizer.parameters());
  metrics.grad_norm = norm_of_gradients(parts);
  sum_over_data(parts, {&metrics.loss}, &metrics.terms);
  if (!std::isfinite(metrics.loss) || !std::isfinite(metrics.grad_norm))
    throw non_finite_error(parts, batches, metrics);
  if (parts.on_gradients) parts.on_gradients();
  if (parts.max_norm > 0)
    clip_gradients(parts.optimizer.parameters(), metrics.grad_norm, parts.max_norm);
  metrics.lr = parts.lr_scheduler.lr(step - 1, parts.optimizer.base_lr(), parts.total_steps);
  const MemoryPurposeScope optimizer(MemoryPurpose::kOptimizer);
  parts.optimizer.step(step, metrics.lr);
  if (parts.strategy != nullptr) parts.strategy->parameters_changed();
  return metrics;
}

StepMetrics evaluate(const TrainingParts& parts, const std::vector<Batch>& batches) {
  const at::NoGradGuard no_grad;
  StepMetrics metrics;
  const StepWeight total = weigh_step(parts, batches, metrics);
  const ObjectiveContext context = objective_context(parts);
  begin_pass(parts, 0, 0, /*training=*/false);
  for (const Batch& batch : batches) {
    for (const ObjectiveTerm& term : parts.objective.compute(context, batch)) {
      if (term.averaged && !term.measured_only && !batch.filler)
        metrics.loss += term.sum.item<double>() * term.scale;
    }
  }
  sum_over_data(parts, {&metrics.loss});
  metrics.loss = total.weight > 0 ? metrics.loss / total.weight : 0.0;
  return metrics;
}

}  // namespace espalier

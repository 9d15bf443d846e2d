#include "engine/train/non_finite.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/train/activation_observer.h"

namespace espalier {
namespace {

constexpr std::size_t kNamedSamples = 16;
constexpr std::int64_t kTextBytes = 2048;  // that a rank tells the others

bool is_finite(const at::Tensor& tensor) {
  return !tensor.defined() || at::isfinite(tensor.detach()).all().item<bool>();
}

/// Names of the parameters whose gradient is not finite, in the order of the model.
std::vector<std::string> bad_gradients(const TrainingParts& parts) {
  std::vector<std::string> names;
  for (const auto& parameter : parts.optimizer.parameters()) {
    if (!is_finite(parameter->value().grad())) names.push_back(parameter->name());
  }
  return names;
}

std::string samples_text(const Batch& batch) {
  if (batch.samples.empty()) return {};
  std::string text = batch.samples.size() == 1 ? "sample " : "samples ";
  for (std::size_t i = 0; i < std::min(batch.samples.size(), kNamedSamples); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(batch.samples[i]);
  if (batch.samples.size() > kNamedSamples)
    text += " and " + std::to_string(batch.samples.size() - kNamedSamples) + " more";
  return text;
}

/// What a forward pass over one micro-batch shows.
struct PassFinding {
  std::string tensor;  ///< the first activation that is not finite
  bool loss = false;   ///< the loss is not
};

PassFinding look_at_pass(const TrainingParts& parts, const ObjectiveContext& context,
                         const Batch& batch) {
  const at::NoGradGuard no_grad;
  PassFinding finding;
  const ActivationObserver observer(
      parts.model,
      [&](const nn::Linear& linear, const at::Tensor& input, const at::Tensor& output) {
        if (!finding.tensor.empty()) return;
        if (!is_finite(input))
          finding.tensor = "the input of " + linear.name();
        else if (!is_finite(output))
          finding.tensor = "the output of " + linear.name();
      });
  for (const ObjectiveTerm& term : parts.objective.compute(context, batch))
    finding.loss = finding.loss || (!term.measured_only && !is_finite(term.sum));
  return finding;
}

/// Gradients of one micro-batch alone; where ranks exchange gradients this would be another step.
std::vector<std::string> gradients_of(const TrainingParts& parts, const ObjectiveContext& context,
                                      const Batch& batch) {
  parts.optimizer.clear_gradients();
  at::Tensor total;
  for (const ObjectiveTerm& term : parts.objective.compute(context, batch)) {
    if (term.measured_only) continue;
    const at::Tensor share = term.sum * term.scale;
    total = total.defined() ? total + share : share;
  }
  if (total.defined() && total.requires_grad()) total.backward();
  return bad_gradients(parts);
}

std::string names_text(const std::vector<std::string>& names) {
  // The last in the model is the first of the backward pass.
  std::string text = "the gradient of " + names.back();
  if (names.size() > 1) text += " and of " + std::to_string(names.size() - 1) + " before it";
  return text;
}

/// The rank's own finding: tensor, then samples; empty when all is well here.
std::string find_cause(const TrainingParts& parts, const StepBatches& batches, std::int64_t step,
                       const std::function<void(std::size_t, bool)>& begin_pass) {
  std::vector<std::shared_ptr<Parameter>> all = parts.model.parts().parameters;
  const auto& trained = parts.optimizer.parameters();
  all.insert(all.end(), trained.begin(), trained.end());
  const std::optional<std::string> weight = parameter_that_is_not_finite(all);
  const std::vector<std::string> gradients = bad_gradients(parts);
  const ObjectiveContext context = objective_context(parts);
  std::string cause;
  for (std::size_t i = 0; i < batches.batches.size(); ++i) {
    const Batch& batch = batches.batches[i];
    begin_pass(i, i + 1 == batches.batches.size());
    const PassFinding finding = look_at_pass(parts, context, batch);
    if (!cause.empty() || batch.filler || (finding.tensor.empty() && !finding.loss)) continue;
    cause = finding.tensor.empty() ? "the loss itself" : finding.tensor;
    cause += "; " + samples_text(batch);
  }
  if (weight) return "the weight " + *weight + (cause.empty() ? "" : "; " + cause);
  if (!cause.empty() || gradients.empty()) return cause;
  if (parts.strategy == nullptr) {
    for (std::size_t i = 0; i < batches.batches.size(); ++i) {
      begin_pass(i, i + 1 == batches.batches.size());
      const std::vector<std::string> names = gradients_of(parts, context, batches.batches[i]);
      if (!names.empty()) return names_text(names) + "; " + samples_text(batches.batches[i]);
    }
  }
  std::string text = names_text(gradients) + "; of step " + std::to_string(step);
  for (const Batch& batch : batches.batches) {
    if (const std::string samples = samples_text(batch); !batch.filler && !samples.empty())
      text += ", " + samples;
  }
  return text;
}

/// The text of the first rank that has one, on all ranks.
std::string agreed(World* world, const std::string& own) {
  if (world == nullptr || world->size() == 1) return own;
  const at::TensorOptions options = at::TensorOptions().dtype(at::kByte);
  const at::Tensor mine = at::zeros({kTextBytes}, options);
  const at::Tensor all = at::zeros({world->size() * kTextBytes}, options);
  std::memcpy(mine.mutable_data_ptr(), own.data(),
              std::min<std::size_t>(own.size(), kTextBytes - 1));
  world->all()->all_gather(all, mine, "what is not finite")->wait();
  const char* text = static_cast<const char*>(all.const_data_ptr());
  for (int rank = 0; rank < world->size(); ++rank) {
    if (const char* one = text + rank * kTextBytes; *one != '\0') return one;
  }
  return {};
}

}  // namespace

std::optional<std::string> parameter_that_is_not_finite(
    const std::vector<std::shared_ptr<Parameter>>& parameters) {
  for (const auto& parameter : parameters) {
    if (!is_finite(parameter->value())) return parameter->name();
  }
  return std::nullopt;
}

Error non_finite_error(const TrainingParts& parts, const StepBatches& batches,
                       const StepMetrics& metrics) {
  const bool loss = !std::isfinite(metrics.loss);
  const std::string cause =
      agreed(parts.world, find_cause(parts, batches, metrics.step, [&](std::size_t i, bool last) {
               begin_training_pass(parts, metrics.step, i, batches.batches.size(), last);
             }));
  parts.optimizer.clear_gradients();
  const std::string step = "step " + std::to_string(metrics.step);
  const std::size_t cut = cause.find("; ");
  const std::string tensor = cause.substr(0, cut);
  const std::string samples = cut == std::string::npos ? std::string() : cause.substr(cut + 2);
  return Error(Problem{
      ErrorCode::kCheckFailed,
      std::string("the ") + (loss ? "loss" : "gradient norm") + " of " + step + " is not finite",
      std::to_string(loss ? metrics.loss : metrics.grad_norm) +
          (tensor.empty() ? "" : "; the first such tensor is " + tensor),
      "a finite number", step + (samples.empty() ? "" : ", " + samples + " of the dataset"),
      "nothing was updated and no checkpoint was written since: run the same command again to go "
      "on from the newest checkpoint, with a lower lr or clip_grad_norm.max_norm, or without these "
      "samples"});
}

}  // namespace espalier

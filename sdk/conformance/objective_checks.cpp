// What a trainer relies on in an Objective: weights from data alone, and terms that add up, so that
// the gradient of a step does not depend on how it was cut.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>

#include <cmath>
#include <map>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/conformance/small_model.h"
#include "espalier/ops/cross_entropy.h"
#include "espalier/sdk/objective.h"

namespace espalier::conformance {
namespace {

constexpr std::int64_t kRows = 4;
constexpr std::int64_t kDocument = 5;  // tokens; two documents a row, so that rows are pairs too

class PlainLoss final : public Loss {
 public:
  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    return from_logits(head.project(hidden), labels);
  }
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return ops::cross_entropy(logits, labels);
  }
};

/// Rows `first` to `last` of the batch that all checks use.
Batch batch_of(std::uint64_t seed, std::int64_t first = 0, std::int64_t last = kRows) {
  const at::Tensor ids = random_integers({kRows, 2 * kDocument}, kSmallVocabulary, seed, 1)
                             .narrow(0, first, last - first);
  at::Tensor labels = ids.clone();
  for (const std::int64_t start : {std::int64_t{0}, kDocument})
    labels.narrow(1, start, 2).fill_(kIgnoredLabel);
  Batch batch;
  batch.tensors = {
      {"input_ids", ids},
      {"labels", labels},
      {"cu_seqlens", at::arange(0, (last - first) * 2 + 1, at::kLong) * kDocument},
      // A mark for each document: every third is bad.
      {"desirable", at::arange(2 * first, 2 * last, at::kLong).fmod(3).gt(0).to(at::kFloat)}};
  batch.num_tokens = ids.numel();
  batch.num_label_tokens = labels.ne(kIgnoredLabel).sum().item<std::int64_t>();
  return batch;
}

struct Setting {
  std::unique_ptr<Model> model;
  std::unique_ptr<Model> teacher;
  PlainLoss loss;

  explicit Setting(std::uint64_t seed) : model(small_model(seed)), teacher(small_model(seed + 1)) {
    for (const auto& parameter : teacher->parts().parameters) parameter->set_trainable(false);
  }
  ObjectiveContext context() {
    return {*model, loss,
            [](const std::function<void()>& work) {
              const at::NoGradGuard no_grad;
              work();
            },
            teacher.get(), true};
  }
};

void check_weight(const Subject& subject, Report& report) {
  const auto objective = subject.create<Objective>();
  const double whole = objective->weight(batch_of(subject.seed));
  const double parts = objective->weight(batch_of(subject.seed, 0, 1)) +
                       objective->weight(batch_of(subject.seed, 1, kRows));
  if (!(whole > 0) || !std::isfinite(whole))
    report.fail("a batch with labels has no weight", number_text(whole), "a number > 0");
  if (std::abs(whole - parts) > 1e-6 * whole)
    report.fail("the weights of micro-batches do not add up", number_text(parts),
                number_text(whole), "count something: label tokens, pairs, samples");
}

void check_terms(const Subject& subject, Report& report) {
  Setting setting(subject.seed);
  const auto objective = subject.create<Objective>();
  const auto terms = objective->compute(setting.context(), batch_of(subject.seed));
  at::Tensor total;
  for (const ObjectiveTerm& term : terms) {
    if (term.name.empty()) report.fail("a term has no name", {}, "a name for the log");
    if (!term.sum.defined() || term.sum.dim() != 0 || !std::isfinite(term.sum.item<double>()))
      return report.fail("term '" + term.name + "' is not a finite scalar");
    if (term.measured_only || !term.sum.requires_grad()) continue;
    total = total.defined() ? total + term.sum * term.scale : term.sum * term.scale;
  }
  if (!total.defined())
    return report.fail("no term has a gradient", {}, "something to minimise",
                       "compute a term outside of context.reference and without detach()");
  std::vector<at::Tensor> weights;
  for (const auto& parameter : setting.model->parts().parameters)
    weights.push_back(parameter->value());
  double largest = 0;
  for (const at::Tensor& gradient : gradients(total, weights))
    largest = std::max(largest, gradient.abs().max().item<double>());
  if (!(largest > 0) || !std::isfinite(largest))
    report.fail("no weight of the model gets a finite gradient", number_text(largest));
}

void check_sums(const Subject& subject, Report& report) {
  const auto sums = [&](std::int64_t first, std::int64_t last) {
    Setting setting(subject.seed);
    const auto objective = subject.create<Objective>();
    std::map<std::string, double> found;
    const at::NoGradGuard no_grad;
    for (const ObjectiveTerm& term :
         objective->compute(setting.context(), batch_of(subject.seed, first, last))) {
      if (term.averaged) found[term.name] += term.sum.item<double>();
    }
    return found;
  };
  std::map<std::string, double> parts = sums(0, 1);
  for (const auto& [name, sum] : sums(1, kRows)) parts[name] += sum;
  for (const auto& [name, whole] : sums(0, kRows)) {
    if (std::abs(parts[name] - whole) <= 1e-4 * std::max(1.0, std::abs(whole))) continue;
    report.fail("term '" + name + "' of micro-batches does not add up to that of the batch",
                number_text(parts[name]), number_text(whole),
                "return sums; the trainer divides by the weight of the whole step");
  }
}

}  // namespace

std::span<const Check> objective_checks() {
  static constexpr Check kChecks[] = {
      {"objective.weight", 3, "the weight of a batch is that of its parts", check_weight},
      {"objective.terms", 3, "terms are finite, and one of them trains the model", check_terms},
      {"objective.micro_batches", 3, "terms of parts add up to those of the whole", check_sums},
  };
  return kChecks;
}

}  // namespace espalier::conformance

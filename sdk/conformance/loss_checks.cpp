// What a trainer relies on in a Loss: sums over labelled rows, so that a step can be cut into
// micro-batches and divided once; the gradient of what it says; nothing else touched.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>

#include <cmath>
#include <stdexcept>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/conformance/small_model.h"
#include "espalier/nn/linear.h"
#include "espalier/sdk/loss.h"

namespace espalier::conformance {
namespace {

constexpr std::int64_t kRows = 13;
constexpr double kRounding = 1e-4;  // float32 sums in another order

/// Logits that spread over several units, and labels of which every third is ignored.
struct Rows {
  at::Tensor logits;  // [rows, vocab]
  at::Tensor labels;  // [rows]
  explicit Rows(std::uint64_t seed)
      : logits(random_tensor({kRows, kSmallVocabulary}, seed, 1) * 2),
        labels(random_integers({kRows}, kSmallVocabulary, seed, 2)) {
    for (std::int64_t row = 0; row < kRows; row += 3) labels[row].fill_(kIgnoredLabel);
  }
  at::Tensor kept() const { return labels.ne(kIgnoredLabel).nonzero().squeeze(-1); }
};

at::Tensor value(const Subject& subject, const at::Tensor& logits, const at::Tensor& labels) {
  return subject.create<Loss>()->from_logits(logits, labels);
}

void check_scalar(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const at::Tensor sum = value(subject, leaf(rows.logits), rows.labels);
  if (!sum.defined() || sum.dim() != 0)
    return report.fail("from_logits does not return a scalar",
                       sum.defined() ? "shape " + shape_text(sum.sizes()) : "nothing",
                       "a tensor without dimensions", "end with .sum()");
  if (sum.scalar_type() != at::kFloat)
    report.fail("from_logits returns another dtype", at::toString(sum.scalar_type()), "Float",
                "compute in float32 whatever the dtype of the logits: logits.to(at::kFloat)");
  if (!std::isfinite(sum.item<double>()))
    report.fail("the loss of ordinary logits is not finite", number_text(sum.item<double>()));
  if (!sum.requires_grad())
    report.fail("the loss has no gradient", {}, "a result that depends on the logits",
                "do not detach, and do not compute under NoGradGuard");
}

void check_ignored(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const at::Tensor all = leaf(rows.logits);
  const at::Tensor sum = value(subject, all, rows.labels);
  const at::Tensor kept = value(subject, rows.logits.index_select(0, rows.kept()),
                                rows.labels.index_select(0, rows.kept()));
  expect_close(report, "rows with the label -100 change the loss", sum, kept, kRounding,
               "leave out rows where labels == kIgnoredLabel, in the sum and in its weight");
  const at::Tensor gradient = gradients(sum, {all})[0];
  const at::Tensor ignored = rows.labels.eq(kIgnoredLabel).nonzero().squeeze(-1);
  if (gradient.index_select(0, ignored).abs().max().item<double>() != 0)
    report.fail("rows with the label -100 get a gradient", {}, "zeros",
                "leave out rows where labels == kIgnoredLabel");
}

void check_nothing_labelled(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const at::Tensor logits = leaf(rows.logits);
  const at::Tensor sum = value(subject, logits, at::full_like(rows.labels, kIgnoredLabel));
  if (sum.item<double>() != 0)
    report.fail("a batch without labels has a loss", number_text(sum.item<double>()), "0",
                "return a sum, which is 0 over no rows; a mean would be 0 / 0");
  if (!sum.requires_grad()) return;
  if (gradients(sum, {logits})[0].ne(0).any().item<bool>())
    report.fail("a batch without labels has a gradient", {}, "zeros");
}

void check_sums(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const at::Tensor whole = value(subject, rows.logits, rows.labels);
  const auto loss = subject.create<Loss>();
  at::Tensor parts;
  for (const auto& [start, length] : {std::pair(0, 4), std::pair(4, 1), std::pair(5, 8)}) {
    const at::Tensor part = loss->from_logits(rows.logits.narrow(0, start, length),
                                              rows.labels.narrow(0, start, length));
    parts = parts.defined() ? parts + part : part;
  }
  expect_close(report, "the losses of micro-batches do not add up to the loss of the batch", parts,
               whole, kRounding,
               "return the sum over labelled rows; the trainer divides once, by the label tokens "
               "of the whole step");
}

void check_gradient(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const auto loss = subject.create<Loss>();
  expect_gradient(
      report, "the gradient of from_logits", {rows.logits},
      [&](const auto& point) { return loss->from_logits(point[0], rows.labels); }, subject.seed,
      1e-2, 1e-2);
}

void check_hidden(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const auto model = small_model(subject.seed);
  Head& head = model->head();
  const auto scope = head.scope();
  const auto loss = subject.create<Loss>();
  const at::Tensor weight = head.linear().weight()->value();
  const at::Tensor start = random_tensor({kRows, kSmallHidden}, subject.seed, 3);

  const at::Tensor hidden = leaf(start);
  const at::Tensor fused = loss->from_hidden(hidden, rows.labels, head);
  const auto fused_gradients = gradients(fused, {hidden, weight});
  const at::Tensor other = leaf(start);
  const at::Tensor plain = loss->from_logits(head.project(other), rows.labels);
  const auto plain_gradients = gradients(plain, {other, weight});

  const std::string hint = "from_hidden(h, labels, head) is from_logits(head.project(h), labels)";
  expect_close(report, "from_hidden and from_logits disagree", fused, plain, kRounding, hint);
  expect_close(report, "the gradient of from_hidden for the hidden states is another",
               fused_gradients[0], plain_gradients[0], kRounding, hint);
  expect_close(report, "the gradient of from_hidden for the head's weight is another",
               fused_gradients[1], plain_gradients[1], kRounding, hint);
}

void check_inputs(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const at::Tensor logits = rows.logits.clone();
  const at::Tensor labels = rows.labels.clone();
  value(subject, logits, labels);
  if (!logits.equal(rows.logits) || !labels.equal(rows.labels))
    report.fail("the loss writes into its arguments",
                !logits.equal(rows.logits) ? "logits" : "labels", "arguments as they were",
                "use the operations without an underscore at the end");
}

void check_low_precision(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const at::Tensor rounded = rows.logits.to(at::kBFloat16);
  const at::Tensor low = leaf(rounded);
  const at::Tensor sum = value(subject, low, rows.labels);
  expect_close(report, "bfloat16 logits give another loss than the same numbers in float32", sum,
               value(subject, rounded.to(at::kFloat), rows.labels), kRounding,
               "convert first: logits.to(at::kFloat)");
  const at::Tensor large = leaf(rows.logits * 5000);
  const at::Tensor extreme = value(subject, large, rows.labels);
  if (!std::isfinite(extreme.item<double>()) ||
      !gradients(extreme, {large})[0].isfinite().all().item<bool>())
    report.fail("large logits (up to 2e4) give a value or gradient that is not finite",
                number_text(extreme.item<double>()), "finite numbers",
                "use log_softmax or logsumexp, never exp alone");
}

void check_repeatable(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const auto loss = subject.create<Loss>();
  const at::Tensor first = loss->from_logits(rows.logits, rows.labels);
  expect_close(report, "a second call gives other bits",
               loss->from_logits(rows.logits, rows.labels), first, 0,
               "keep no state between calls");
}

/// A head whose weight can't be had.
class ThrowingHead final : public Head {
 public:
  explicit ThrowingHead(Head& head) : head_(head) {}
  std::int64_t vocab_size() const override { return head_.vocab_size(); }
  std::shared_ptr<void> scope() override { return head_.scope(); }
  at::Tensor project(const at::Tensor&) override { throw std::runtime_error("injected failure"); }
  nn::Linear& linear() override { throw std::runtime_error("injected failure"); }

 private:
  Head& head_;
};

void check_exceptions(const Subject& subject, Report& report) {
  const Rows rows(subject.seed);
  const auto model = small_model(subject.seed);
  const auto loss = subject.create<Loss>();
  const at::Tensor hidden = random_tensor({kRows, kSmallHidden}, subject.seed, 3);
  const at::Tensor before = loss->from_hidden(hidden, rows.labels, model->head());
  ThrowingHead broken(model->head());
  try {
    loss->from_hidden(hidden, rows.labels, broken);
    return report.fail("an exception of the head is swallowed", {}, "the exception, passed on",
                       "catch nothing that you can't mend");
  } catch (const std::exception&) {
    // What is expected of it.
  }
  expect_close(report, "after a failed call the loss gives other numbers",
               loss->from_hidden(hidden, rows.labels, model->head()), before, 0,
               "leave nothing half done when a call throws");
}

}  // namespace

std::span<const Check> loss_checks() {
  static constexpr Check kChecks[] = {
      {"loss.exceptions", 2, "an exception passes through and leaves the loss usable",
       check_exceptions},
      {"loss.scalar", 3, "from_logits returns one finite float32 number with a gradient",
       check_scalar},
      {"loss.ignore_index", 3, "rows with the label -100 count for nothing", check_ignored},
      {"loss.nothing_labelled", 3, "no labels at all give 0 and a zero gradient",
       check_nothing_labelled},
      {"loss.micro_batches", 3, "losses of parts add up to the loss of the whole", check_sums},
      {"loss.gradient", 3, "the gradient is the derivative of the value", check_gradient},
      {"loss.from_hidden", 3, "from_hidden equals from_logits of the projected rows", check_hidden},
      {"loss.arguments", 3, "arguments are left as they are", check_inputs},
      {"loss.low_precision", 3, "bfloat16 and large logits are computed in float32, safely",
       check_low_precision},
      {"loss.repeatable", 3, "equal calls give equal bits", check_repeatable},
  };
  return kChecks;
}

}  // namespace espalier::conformance

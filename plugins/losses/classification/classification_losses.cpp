// Losses of a classification head beside cross entropy: squared error of real targets, and binary
// cross entropy where a text has several classes at once. Both as transformers has them for
// problem_type "regression" and "multi_label_classification": means over the scores of a text,
// summed over texts.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/mse_loss.h>

#include "espalier/base/error.h"
#include "espalier/data/target_label.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// Over the rows that have a label: sum over rows of the mean over their scores.
class RowLoss : public Loss {
 public:
  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    const at::Tensor rows = labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
    const at::Tensor logits = head.project(hidden.index_select(0, rows));
    return sum_of_rows(logits.to(at::kFloat), labels.index_select(0, rows));
  }
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor rows = labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
    return sum_of_rows(logits.index_select(0, rows).to(at::kFloat), labels.index_select(0, rows));
  }

 protected:
  /// logits [rows, scores] float32, labels [rows] without ignored ones.
  virtual at::Tensor sum_of_rows(const at::Tensor& logits, const at::Tensor& labels) const = 0;
};

class MeanSquaredError final : public RowLoss {
  at::Tensor sum_of_rows(const at::Tensor& logits, const at::Tensor& labels) const override {
    if (logits.size(1) != 1) {
      throw_bad_input("a regression needs one score for each text", std::to_string(logits.size(1)),
                      "1", "[loss_fn]", "set model.config.num_labels = 1");
    }
    return at::mse_loss(logits.squeeze(-1), reals_of_labels(labels), at::Reduction::Sum);
  }
};

class BinaryCrossEntropy final : public RowLoss {
  at::Tensor sum_of_rows(const at::Tensor& logits, const at::Tensor& labels) const override {
    const std::int64_t classes = logits.size(1);
    if (classes > kMostClassesAtOnce) {
      throw Error(Problem{ErrorCode::kUnsupported,
                          "too many classes at once",
                          std::to_string(classes),
                          std::to_string(kMostClassesAtOnce) + " at most",
                          "[loss_fn]",
                          {}});
    }
    const at::Tensor bits = at::arange(classes, labels.options());
    const at::Tensor targets =
        at::bitwise_and(at::bitwise_right_shift(labels.unsqueeze(-1), bits), 1).to(at::kFloat);
    return at::binary_cross_entropy_with_logits(logits, targets, {}, {}, at::Reduction::Sum) /
           static_cast<double>(classes);
  }
};

void register_components(Registrar& registrar) {
  registrar.add<Loss, MeanSquaredError>("mean_squared_error",
                                        "squared error of the one score that a text has");
  registrar.add<Loss, BinaryCrossEntropy>("binary_cross_entropy",
                                          "each class is in or not, for texts with several");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.classification_losses", "0.1.0", espalier::register_components)

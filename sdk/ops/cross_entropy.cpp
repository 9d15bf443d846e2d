#include "espalier/ops/cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/ops/reference.h"
#include "espalier/sdk/batch.h"

namespace espalier::ops {
namespace {

// numbers: label smoothing e, z weight, soft cap; integers: whether the gradient may be written
// over the logits
at::Tensor capped(const at::Tensor& logits, double soft_cap) {
  const at::Tensor values = logits.to(at::kFloat);
  return soft_cap > 0 ? at::tanh(values / soft_cap).mul_(soft_cap) : values;
}

// loss = sum_rows lse - (1 - e) l_y - e mean(l) + z lse^2; saved: logits, labels, lse [rows]
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  const auto [smoothing, z_loss, soft_cap, unused] = attributes.numbers;
  const at::Tensor logits = capped(inputs[0], soft_cap);
  const at::Tensor& labels = inputs[1];
  const at::Tensor keep = labels.ne(kIgnoredLabel);
  const at::Tensor lse = at::logsumexp(logits, {-1});
  const at::Tensor target = logits.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1);
  at::Tensor loss = lse - target * (1.0 - smoothing);
  if (smoothing > 0) loss -= logits.mean(-1) * smoothing;
  if (z_loss > 0) loss += lse.square() * z_loss;
  saved.tensors = {inputs[0], labels, lse};
  // Summed in double: thousands of terms of one sign lose digits in float.
  return {at::where(keep, loss, at::zeros_like(loss)).sum(at::kDouble).to(at::kFloat)};
}

// d/dlogits = (1 + 2 z lse) softmax - (1 - e) onehot - e / vocab; the soft cap multiplies by 1 -
// tanh^2
Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>&) {
  const auto [smoothing, z_loss, soft_cap, unused] = attributes.numbers;
  const at::Tensor& labels = saved.tensors[1];
  const at::Tensor lse = saved.tensors[2].unsqueeze(-1);
  const at::Tensor logits = capped(saved.tensors[0], soft_cap);
  at::Tensor grad = (logits - lse).exp_();
  if (z_loss > 0) grad.mul_(lse * (2 * z_loss) + 1.0);
  if (smoothing > 0) grad.sub_(smoothing / static_cast<double>(grad.size(-1)));
  const at::Tensor index = labels.clamp_min(0).unsqueeze(-1);
  grad.scatter_add_(-1, index, at::zeros_like(lse).sub_(1.0 - smoothing).expand_as(index));
  if (soft_cap > 0) grad.mul_(logits.div(soft_cap).square_().neg_().add_(1.0));
  grad.mul_(labels.ne(kIgnoredLabel).unsqueeze(-1).to(at::kFloat) * grad_outputs[0].to(at::kFloat));
  return {grad.to(saved.tensors[0].scalar_type()), {}};
}

/// What each row needs of the other ranks: the log of the sum of exponentials, the target's logit
/// (0 but on the rank that has it) and, with smoothing, the sum of the logits. [rows] each.
struct RowNumbers {
  at::Tensor lse;
  at::Tensor target;
  at::Tensor sum;
};

/// logits [rows, count] capped, index [rows] into them, held [rows]: whether this rank has it.
RowNumbers gathered_numbers(const at::Tensor& logits, const at::Tensor& index,
                            const at::Tensor& held, bool smoothing, Communicator& ranks) {
  const at::Tensor lse = at::logsumexp(logits, {-1});  // -inf without columns
  at::Tensor target = at::zeros_like(lse);
  if (logits.size(-1) > 0)
    target = at::where(held, logits.gather(-1, index.unsqueeze(-1)).squeeze(-1), target);
  std::vector<at::Tensor> own = {lse, target};
  if (smoothing) own.push_back(logits.sum(-1));
  const at::Tensor sent = at::stack(own);  // [numbers, rows]
  if (sent.numel() == 0) return {lse, target, smoothing ? own.back() : at::Tensor()};
  const at::Tensor all =
      at::empty({ranks.size(), sent.size(0), sent.size(1)}, sent.options().requires_grad(false));
  ranks.all_gather(all.view({-1}), sent.view({-1}), "what a loss needs of the logits")->wait();
  return {at::logsumexp(all.select(1, 0), {0}), all.select(1, 1).sum(0),
          smoothing ? all.select(1, 2).sum(0) : at::Tensor()};
}

/// As the op "cross_entropy", over a run of the vocabulary; lse is then that of the whole row, and
/// the backward pass needs no other rank.
struct SharedCrossEntropy : torch::autograd::Function<SharedCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logits,
                            const at::Tensor& labels, const CrossEntropyOptions& options,
                            const AxisShare* share) {
    const at::Tensor values = capped(logits, options.soft_cap);
    const std::int64_t count = logits.size(-1);
    const at::Tensor local = labels - share->runs.front().begin;
    const at::Tensor held = local.ge(0).bitwise_and(local.lt(count));
    const at::Tensor index = local.clamp(0, std::max<std::int64_t>(0, count - 1));
    const RowNumbers rows =
        gathered_numbers(values, index, held, options.label_smoothing > 0, *share->ranks);
    at::Tensor loss = rows.lse - rows.target * (1.0 - options.label_smoothing);
    if (options.label_smoothing > 0)
      loss -= rows.sum * (options.label_smoothing / static_cast<double>(share->size));
    if (options.z_loss > 0) loss += rows.lse.square() * options.z_loss;
    const at::Tensor keep = labels.ne(kIgnoredLabel);
    context->save_for_backward({logits, index, held.bitwise_and(keep), keep, rows.lse});
    context->saved_data["numbers"] =
        std::vector<double>{options.label_smoothing, options.z_loss, options.soft_cap,
                            static_cast<double>(share->size)};
    return at::where(keep, loss, at::zeros_like(loss)).sum(at::kDouble).to(at::kFloat);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      const torch::autograd::variable_list& grad_outputs) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const auto numbers = context->saved_data["numbers"].toDoubleVector();
    const double smoothing = numbers[0];
    const double z_loss = numbers[1];
    const double soft_cap = numbers[2];
    const at::Tensor lse = saved[4].unsqueeze(-1);
    const at::Tensor logits = capped(saved[0], soft_cap);
    at::Tensor grad = (logits - lse).exp_();
    if (z_loss > 0) grad.mul_(lse * (2 * z_loss) + 1.0);
    if (smoothing > 0) grad.sub_(smoothing / numbers[3]);
    if (grad.size(-1) > 0)
      grad.scatter_add_(-1, saved[1].unsqueeze(-1),
                        saved[2].to(at::kFloat).mul_(smoothing - 1.0).unsqueeze(-1));
    if (soft_cap > 0) grad.mul_(logits.div(soft_cap).square_().neg_().add_(1.0));
    grad.mul_(saved[3].unsqueeze(-1).to(at::kFloat) * grad_outputs[0].to(at::kFloat));
    return {grad.to(saved[0].scalar_type()), {}, {}, {}};
  }
};

}  // namespace

void check_labels(const at::Tensor& labels, std::int64_t vocab) {
  if (labels.numel() > 0) {
    const std::int64_t highest = labels.max().item<std::int64_t>();
    const std::int64_t lowest = labels.min().item<std::int64_t>();
    if (highest >= vocab || (lowest < 0 && lowest != kIgnoredLabel)) {
      throw_bad_input(
          "a label is outside the vocabulary", std::to_string(highest >= vocab ? highest : lowest),
          "0 to " + std::to_string(vocab - 1) + ", or -100 to ignore the position", "labels");
    }
  }
}

OpImplementation cross_entropy_reference() {
  return {"cross_entropy", "reference", 0, {}, forward, backward};
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                         const CrossEntropyOptions& options) {
  check_labels(labels, logits.size(-1));
  return call("cross_entropy", {logits, labels},
              {{options.label_smoothing, options.z_loss, options.soft_cap},
               {options.overwrites_logits ? 1 : 0}})[0];
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                         const CrossEntropyOptions& options, const AxisShare* share) {
  if (share == nullptr) return cross_entropy(logits, labels, options);
  ESPALIER_ASSERT(share->runs.size() == 1 && logits.size(-1) == share->count(),
                  "a rank has the logits of one run of the vocabulary");
  check_labels(labels, share->size);
  return SharedCrossEntropy::apply(logits, labels, options, share);
}

at::Tensor cross_entropy(Head& head, const at::Tensor& hidden_rows, const at::Tensor& labels,
                         const CrossEntropyOptions& options) {
  return cross_entropy(head.project_share(hidden_rows), labels, options, head.share());
}

}  // namespace espalier::ops

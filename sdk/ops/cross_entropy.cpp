#include "espalier/ops/cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "espalier/base/error.h"
#include "espalier/ops/reference.h"
#include "espalier/sdk/batch.h"

namespace espalier::ops {
namespace {

// numbers: label smoothing e, z weight, soft cap
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

}  // namespace

OpImplementation cross_entropy_reference() {
  return {"cross_entropy", "reference", 0, {}, forward, backward};
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                         const CrossEntropyOptions& options) {
  const std::int64_t vocab = logits.size(-1);
  if (labels.numel() > 0) {
    const std::int64_t highest = labels.max().item<std::int64_t>();
    const std::int64_t lowest = labels.min().item<std::int64_t>();
    if (highest >= vocab || (lowest < 0 && lowest != kIgnoredLabel)) {
      throw_bad_input(
          "a label is outside the vocabulary", std::to_string(highest >= vocab ? highest : lowest),
          "0 to " + std::to_string(vocab - 1) + ", or -100 to ignore the position", "labels");
    }
  }
  return call("cross_entropy", {logits, labels},
              {{options.label_smoothing, options.z_loss, options.soft_cap}, {}})[0];
}

}  // namespace espalier::ops

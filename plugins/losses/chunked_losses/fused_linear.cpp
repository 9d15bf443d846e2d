#include "fused_linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/weight_storage.h"
#include "vocabulary_tiles.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Tensors of the head that a gradient is wanted for, each once.
variable_list trainable_tensors(Head& head) {
  const nn::Linear& linear = head.linear();
  std::vector<std::shared_ptr<Parameter>> parameters = linear.storage().components();
  parameters.push_back(linear.weight());
  if (linear.bias() != nullptr) parameters.push_back(linear.bias());
  for (const auto& extension : linear.extensions()) {
    for (const auto& parameter : extension->parameters()) parameters.push_back(parameter);
  }
  variable_list tensors;
  for (const auto& parameter : parameters) {
    const at::Tensor& tensor = parameter->computed();
    const bool known = std::any_of(tensors.begin(), tensors.end(),
                                   [&](const at::Tensor& t) { return t.is_same(tensor); });
    if (tensor.requires_grad() && !known) tensors.push_back(tensor);
  }
  return tensors;
}

/// A loss whose gradients are known already: `gradients[i]` belongs to `inputs[i]`.
struct KnownGradients : torch::autograd::Function<KnownGradients> {
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs, const at::Tensor& loss,
                            variable_list gradients) {
    context->saved_data["count"] = static_cast<std::int64_t>(inputs.size());
    context->saved_data["gradients"] = std::move(gradients);
    return loss.clone();
  }

  // Scaled in place: they are as large as the weights, and a graph is walked once.
  static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
    const auto stored = context->saved_data.find("gradients");
    ESPALIER_ASSERT(stored != context->saved_data.end(), "a fused loss has one backward pass");
    variable_list gradients = stored->second.toTensorVector();
    context->saved_data.erase(stored);
    for (at::Tensor& gradient : gradients) {
      if (gradient.defined()) gradient.mul_(grad_outputs[0].to(gradient.scalar_type()));
    }
    // The loss and the gradients were arguments too.
    gradients.resize(static_cast<std::size_t>(context->saved_data["count"].toInt()) + 2);
    return gradients;
  }
};

/// Stands for a plain weight in a head while it lives. Autograd sees the product's output as a
/// beginning.
class SplitHead {
 public:
  explicit SplitHead(nn::Linear& linear) : linear_(linear), own_(linear.set_storage(nullptr)) {
    auto product = std::make_unique<Product>(*own_);
    product_ = product.get();
    linear_.set_storage(std::move(product));
  }
  SplitHead(const SplitHead&) = delete;
  SplitHead& operator=(const SplitHead&) = delete;
  ~SplitHead() { linear_.set_storage(std::move(own_)); }

  /// The product's last output; it is let go.
  at::Tensor take_output() const { return std::exchange(product_->output, at::Tensor()); }

 private:
  struct Product final : nn::WeightStorage {
    explicit Product(const nn::WeightStorage& of) : inner(of) {}
    at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override {
      const at::NoGradGuard no_grad;
      output = inner.linear(input, bias).detach().set_requires_grad(true);
      return output;
    }
    at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override {
      return inner.rows(ids, dtype);
    }
    at::Tensor dense(at::ScalarType dtype) const override { return inner.dense(dtype); }
    std::vector<std::shared_ptr<Parameter>> components() const override {
      return inner.components();
    }
    std::int64_t bytes() const override { return inner.bytes(); }

    const nn::WeightStorage& inner;
    mutable at::Tensor output;
  };

  nn::Linear& linear_;
  std::unique_ptr<nn::WeightStorage> own_;
  const Product* product_ = nullptr;
};

/// Whether the head's product is nothing but input x weight^T in one dtype.
bool is_plain(Head& head, const at::Tensor& hidden) {
  nn::Linear& linear = head.linear();
  return dynamic_cast<const nn::DenseWeight*>(&linear.storage()) != nullptr &&
         linear.extensions().empty() && linear.bias() == nullptr &&
         !linear.redistribution().input && !linear.redistribution().output &&
         linear.weight()->computed().scalar_type() == hidden.scalar_type();
}

/// Whether its logits are that product, with nothing done to them; asked with no rows.
bool ends_with_product(Head& head, const SplitHead& split, const at::Tensor& hidden) {
  const at::Tensor logits = head.project_share(hidden.detach().narrow(0, 0, 0));
  return logits.is_same(split.take_output());
}

/// The sum of the losses, and the gradients of hidden rows and weights (undefined: not wanted).
struct Result {
  double sum = 0;
  at::Tensor hidden_gradient;
  variable_list weight_gradients;
};

using Chunks = std::vector<std::pair<at::Tensor, at::Tensor>>;  // hidden rows, labels

/// So many rows at a time that this rank's logits of them take at most `bytes` in float32; of about
/// the same size, for a chunk of few rows takes as long to read the weight as one of many.
Chunks chunks_of(const at::Tensor& hidden, const at::Tensor& labels, Head& head,
                 std::int64_t bytes) {
  const std::int64_t ranks = head.share() == nullptr ? 1 : head.share()->ranks->size();
  const std::int64_t columns = std::max<std::int64_t>(1, head.vocab_size() / ranks);
  const std::int64_t most =
      std::max<std::int64_t>(1, bytes / (columns * static_cast<std::int64_t>(sizeof(float))));
  const std::int64_t number = (hidden.size(0) + most - 1) / most;
  Chunks chunks;
  for (std::int64_t i = 0; i < number; ++i) {
    const std::int64_t begin = hidden.size(0) * i / number;
    const std::int64_t count = hidden.size(0) * (i + 1) / number - begin;
    chunks.emplace_back(hidden.detach().narrow(0, begin, count), labels.narrow(0, begin, count));
  }
  return chunks;
}

/// The two products of the backward pass are written where their results belong: no chunk makes a
/// gradient of the weight's size only to add it.
Result by_hand(const Chunks& chunks, Head& head, const SplitHead& split,
               const ops::CrossEntropyOptions& options, Result result) {
  const at::Tensor weight = head.linear().weight()->computed().detach();
  std::int64_t begin = 0;
  for (const auto& [rows, labels] : chunks) {
    at::Tensor loss = ops::cross_entropy(head, rows, labels, options);
    result.sum += loss.item<double>();
    const at::Tensor gradient = torch::autograd::grad({loss}, {split.take_output()}).at(0);
    const at::NoGradGuard no_grad;
    if (result.hidden_gradient.defined()) {
      at::Tensor place = result.hidden_gradient.narrow(0, begin, rows.size(0));
      at::mm_out(place, gradient, weight);
    }
    if (!result.weight_gradients.empty()) {
      at::Tensor& sum = result.weight_gradients[0];
      if (sum.defined())
        sum.addmm_(gradient.t(), rows);
      else
        sum = at::mm(gradient.t(), rows);
    }
    begin += rows.size(0);
  }
  return result;
}

/// Any head: autograd makes the gradients of each chunk.
Result by_autograd(const Chunks& chunks, Head& head, const ops::CrossEntropyOptions& options,
                   const variable_list& weights, Result result) {
  const bool wants_hidden = result.hidden_gradient.defined();
  std::int64_t begin = 0;
  for (const auto& [rows, labels] : chunks) {
    const at::Tensor chunk = rows.detach().set_requires_grad(wants_hidden);
    const at::Tensor loss = ops::cross_entropy(head, chunk, labels, options);
    result.sum += loss.item<double>();
    variable_list inputs = weights;
    if (wants_hidden) inputs.insert(inputs.begin(), chunk);
    if (inputs.empty()) continue;  // the sum alone is wanted
    const variable_list gradients = torch::autograd::grad(
        {loss}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
    const std::size_t first = wants_hidden ? 1 : 0;
    if (wants_hidden) result.hidden_gradient.narrow(0, begin, rows.size(0)).copy_(gradients[0]);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const at::Tensor& gradient = gradients[first + i];
      if (!gradient.defined()) continue;
      at::Tensor& sum = result.weight_gradients[i];
      if (sum.defined())
        sum.add_(gradient);
      else
        sum = gradient;
    }
    begin += rows.size(0);
  }
  return result;
}

}  // namespace

at::Tensor fused_linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& labels,
                                      Head& head, const ops::CrossEntropyOptions& options,
                                      std::int64_t chunk_bytes) {
  const bool records = at::GradMode::is_enabled();
  const variable_list weights = trainable_tensors(head);
  const bool wants_hidden = records && hidden.requires_grad();
  const bool wanted = wants_hidden || (records && !weights.empty());
  Result result;
  result.weight_gradients.resize(weights.size());
  std::optional<SplitHead> split;
  if (is_plain(head, hidden)) split.emplace(head.linear());
  // Not for a trained weight without gradients either: validation then has the numbers of training.
  if (split && weights.empty() && options.soft_cap == 0 &&
      ends_with_product(head, *split, hidden)) {
    ops::check_labels(labels, head.vocab_size());
    TiledCrossEntropy tiled =
        tiled_cross_entropy(hidden.detach(), labels, head.linear().weight()->computed().detach(),
                            options, wants_hidden, chunk_bytes);
    result.sum = tiled.sum;
    result.hidden_gradient = std::move(tiled.hidden_gradient);
  } else {
    const Chunks chunks = chunks_of(hidden, labels, head, chunk_bytes);
    if (wants_hidden)
      result.hidden_gradient = at::zeros(hidden.sizes(), hidden.options().requires_grad(false));
    ops::CrossEntropyOptions overwriting = options;
    overwriting.overwrites_logits = true;
    if (split && wanted) {
      result = by_hand(chunks, head, *split, overwriting, std::move(result));
    } else {
      split.reset();
      result = by_autograd(chunks, head, overwriting, wanted ? weights : variable_list(),
                           std::move(result));
    }
  }
  at::Tensor loss = at::zeros({}, at::TensorOptions().dtype(at::kFloat)).fill_(result.sum);
  if (!wanted) return loss;
  variable_list inputs;
  variable_list gradients;
  if (result.hidden_gradient.defined()) {
    inputs.push_back(hidden);
    gradients.push_back(result.hidden_gradient);
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const at::Tensor& gradient = result.weight_gradients[i];
    inputs.push_back(weights[i]);
    gradients.push_back(gradient.defined() ? gradient : at::zeros_like(weights[i].detach()));
  }
  return KnownGradients::apply(at::TensorList(inputs), loss, gradients);
}

}  // namespace espalier

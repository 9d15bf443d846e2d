#include "engine/run/score.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include "espalier/base/error.h"
#include "espalier/io/parameter_io.h"
#include "espalier/ops/cross_entropy.h"

namespace espalier {
namespace {

void add_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters,
                   const std::vector<DiskMapping>& mappings,
                   std::map<std::string, at::Tensor>& results) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i]->spec().buffer) continue;
    const at::Tensor& value = parameters[i]->value();
    const at::Tensor grad = value.grad().defined() ? value.grad() : at::zeros_like(value);
    for (const auto& [name, tensor] : to_disk_layout(mappings[i], grad))
      results.emplace("grad." + name, tensor.to(at::kFloat));
  }
}

}  // namespace

ModelInput model_input(const std::map<std::string, at::Tensor>& tensors) {
  ModelInput input;
  for (const char* name : {"input_ids", "attention_mask", "position_ids", "cu_seqlens"}) {
    if (const auto found = tensors.find(name); found != tensors.end())
      input.tensors.emplace(name, found->second);
  }
  return input;
}

void add_all_gradients(Model& model, const Adapter* adapter,
                       std::map<std::string, at::Tensor>& results) {
  if (adapter != nullptr)
    add_gradients(adapter->parameters(), adapter->mappings(), results);
  else
    add_gradients(model.parts().parameters, model.parts().mappings, results);
}

std::map<std::string, at::Tensor> score(Model& model,
                                        const std::map<std::string, at::Tensor>& input,
                                        const ScoreOptions& options, const Adapter* adapter) {
  const bool has_labels = input.contains("labels");
  if (options.gradients && !has_labels) {
    throw_bad_input("gradients need labels", {}, "a tensor 'labels' in the input", "--gradients");
  }
  const at::AutoGradMode grad_mode(options.gradients);
  const ModelOutput output = model.forward(model_input(input));
  const auto scope = model.head().scope();

  std::map<std::string, at::Tensor> results;
  at::Tensor labels;
  at::Tensor rows = output.hidden;
  if (has_labels) {
    labels = predicted_labels(output.layout, input.at("labels"), options.shifted_labels);
    labels = labels.to(output.hidden.device(), at::kLong);
  }
  at::Tensor logits;
  if (options.logits) {
    logits = model.head().project(rows);
    results.emplace("logits", output.layout.unflatten(logits.detach().to(at::kFloat)));
  } else if (has_labels) {
    // Only labelled positions need logits.
    const at::Tensor kept = labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
    logits = model.head().project(rows.index_select(0, kept));
    labels = labels.index_select(0, kept);
  }
  if (!has_labels) return results;

  const at::Tensor sum = ops::cross_entropy(logits, labels);
  const std::int64_t count = labels.ne(kIgnoredLabel).sum().item<std::int64_t>();
  const at::Tensor mean = sum / static_cast<double>(std::max<std::int64_t>(count, 1));
  results.emplace("loss_sum", sum.detach());
  results.emplace("loss", mean.detach());
  results.emplace("num_label_tokens", at::tensor(count, at::TensorOptions().dtype(at::kLong)));
  if (!options.gradients) return results;

  mean.backward();
  add_all_gradients(model, adapter, results);
  return results;
}

}  // namespace espalier

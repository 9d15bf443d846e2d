#include "engine/run/parity.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "engine/run/score.h"
#include "espalier/base/error.h"
#include "espalier/io/parameter_io.h"

namespace espalier {
namespace {

constexpr double kLogitsLimit = 1e-5;
constexpr double kRecurrentLogitsLimit = 5e-5;  // a state adds up the roundings of a whole text
constexpr double kLossLimit = 1e-5;
constexpr double kGradientLimit = 1e-4;
constexpr double kGradientLimitOfAll = 1e-6;
constexpr double kMergedWeightLimit = 1e-6;
constexpr double kBf16ComputeLimit = 0.1;  // absolute

using Tensors = std::map<std::string, at::Tensor>;

double largest(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? 0.0 : tensor.abs().max().to(at::kDouble).item<double>();
}

ParityRow compare(const std::string& name, const at::Tensor& actual, const at::Tensor& expected,
                  double limit) {
  if (actual.sizes() != expected.sizes()) {
    throw_bad_input("'" + name + "' has another shape than the reference", c10::str(actual.sizes()),
                    c10::str(expected.sizes()), name, "the reference belongs to another model");
  }
  const at::Tensor difference = actual.to(at::kCPU, at::kDouble) - expected.to(at::kDouble);
  ParityRow row{name, largest(difference), 0.0, limit};
  const double scale = largest(expected);
  row.relative_difference = scale > 0 ? row.maximum_difference / scale : row.maximum_difference;
  return row;
}

/// Keeps the hidden states that leave each block.
class RecordingRunner final : public BlockRunner {
 public:
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    state = block.forward(std::move(state), context);
    hidden_.push_back(context.layout.unflatten(state.hidden.detach()));
    return state;
  }
  const std::vector<at::Tensor>& hidden() const { return hidden_; }

 private:
  std::vector<at::Tensor> hidden_;
};

/// The batch of one variant: "" or "padded_left." and so on.
Tensors batch_of(const Tensors& expected, const std::string& prefix) {
  Tensors batch;
  for (const char* name : {"input_ids", "attention_mask", "position_ids", "cu_seqlens", "labels"}) {
    if (const auto found = expected.find(prefix + name); found != expected.end())
      batch.emplace(name, found->second);
  }
  return batch;
}

/// Of logits and hidden states, relative to the largest.
double logits_limit(const Model& model) {
  return model.shape().recurrent ? kRecurrentLogitsLimit : kLogitsLimit;
}

void compare_hidden(const std::vector<at::Tensor>& hidden, const Tensors& expected, double limit,
                    std::vector<ParityRow>& rows) {
  // hidden.0 are the embeddings, hidden.N comes after the final norm: the last layer alone is not
  // in the dump. Some models of transformers (Mamba) list what leaves each layer instead.
  const auto first = expected.find("hidden.0");
  if (hidden.size() < 2 || first == expected.end()) return;
  const auto distance = [&](const at::Tensor& state) {
    return state.sizes() == first->second.sizes() ? largest(state - first->second) : HUGE_VAL;
  };
  std::vector<at::Tensor> kept(hidden.begin(), hidden.end() - 2);
  if (distance(hidden[1]) < distance(hidden[0])) kept.assign(hidden.begin() + 1, hidden.end() - 1);
  kept.push_back(hidden.back());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const std::string name = "hidden." + std::to_string(i);
    const auto found = expected.find(name);
    if (found != expected.end())
      rows.push_back(compare(name, kept[i], found->second, limit * largest(found->second)));
  }
}

void compare_gradients(const Tensors& actual, const Tensors& expected,
                       std::vector<ParityRow>& rows) {
  double largest_of_all = 0;
  for (const auto& [name, tensor] : expected) {
    if (name.starts_with("grad.")) largest_of_all = std::max(largest_of_all, largest(tensor));
  }
  for (const auto& [name, tensor] : expected) {
    if (!name.starts_with("grad.")) continue;
    const auto found = actual.find(name);
    if (found == actual.end()) {
      throw_bad_input("the reference has a gradient that the model has not", name, {}, name,
                      "the reference belongs to another model");
    }
    rows.push_back(
        compare(name, found->second, tensor,
                kGradientLimit * largest(tensor) + kGradientLimitOfAll * largest_of_all));
  }
}

void compare_main_batch(const LoadedModel& loaded, const Tensors& expected,
                        std::vector<ParityRow>& rows) {
  Model& model = *loaded.model;
  const auto recorder = std::make_shared<RecordingRunner>();
  model.set_block_runner(recorder);
  const bool gradients = expected.contains("labels");
  const Tensors actual =
      score(model, batch_of(expected, ""), {true, gradients, false}, loaded.adapter.get());
  model.set_block_runner(std::make_shared<BlockRunner>());
  const double limit = logits_limit(model);
  const at::Tensor& logits = expected.at("logits");
  rows.push_back(compare("logits", actual.at("logits"), logits, limit * largest(logits)));
  compare_hidden(recorder->hidden(), expected, limit, rows);
  for (const char* name : {"loss", "loss_sum"}) {
    if (!gradients || !expected.contains(name)) continue;
    const at::Tensor& reference = expected.at(name);
    rows.push_back(compare(name, actual.at(name), reference, kLossLimit * largest(reference)));
  }
  if (gradients) compare_gradients(actual, expected, rows);
}

/// The model with its adapter switched off, and with the adapter merged into the weights.
void compare_adapter(const LoadedModel& loaded, const Tensors& expected,
                     std::vector<ParityRow>& rows) {
  const auto compare_logits = [&](const char* name) {
    const Tensors actual = score(*loaded.model, batch_of(expected, ""), {true, false, false});
    const at::Tensor& reference = expected.at(name);
    rows.push_back(
        compare(name, actual.at("logits"), reference, kLogitsLimit * largest(reference)));
  };
  if (expected.contains("base_logits")) {
    loaded.adapter->disable_as_peft();
    compare_logits("base_logits");
    loaded.adapter->set_enabled(true);
  }
  if (!expected.contains("merged_logits")) return;
  loaded.adapter->merge(*loaded.model);
  compare_logits("merged_logits");
  const ModelParts& parts = loaded.model->parts();
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    const at::Tensor value = parts.parameters[i]->value().detach();
    for (const auto& [name, tensor] : to_disk_layout(parts.mappings[i], value)) {
      const auto reference = expected.find("merged." + name);
      if (reference == expected.end()) continue;
      rows.push_back(compare("merged." + name, tensor, reference->second,
                             kMergedWeightLimit * largest(reference->second)));
    }
  }
}

}  // namespace

std::vector<ParityRow> compare_with_reference(const ModelSource& source, const Tensors& expected) {
  if (!expected.contains("input_ids") || !expected.contains("logits")) {
    throw_bad_input("the reference has no 'input_ids' and 'logits'", {}, "a dump with both",
                    "--expected");
  }
  std::vector<ParityRow> rows;
  const LoadedModel loaded = source("float32");
  compare_main_batch(loaded, expected, rows);
  for (const char* prefix : {"padded_left.", "padded_right.", "packed."}) {
    const auto reference = expected.find(std::string(prefix) + "logits");
    if (reference == expected.end()) continue;
    const Tensors actual = score(*loaded.model, batch_of(expected, prefix), {true, false, false});
    rows.push_back(compare(std::string(prefix) + "logits", actual.at("logits"), reference->second,
                           logits_limit(*loaded.model) * largest(reference->second)));
  }
  if (const auto reference = expected.find("logits_bf16_compute"); reference != expected.end()) {
    const LoadedModel half = source("bfloat16");
    const Tensors actual = score(*half.model, batch_of(expected, ""), {true, false, false});
    rows.push_back(
        compare("logits_bf16_compute", actual.at("logits"), reference->second, kBf16ComputeLimit));
  }
  if (loaded.adapter != nullptr) compare_adapter(loaded, expected, rows);
  return rows;
}

}  // namespace espalier

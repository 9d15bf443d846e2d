#include "engine/run/score_task.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <optional>

#include "engine/run/score.h"
#include "espalier/base/error.h"
#include "espalier/ops/cross_entropy.h"
#include "espalier/ops/pooling.h"

namespace espalier {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

std::optional<std::int64_t> padding_id(const Value& config) {
  const Value* id = config.find("pad_token_id");
  if (id == nullptr || !id->is_int()) return std::nullopt;
  return id->as_int();
}

/// "regression", "single_label_classification", "multi_label_classification".
std::string problem_type(const LoadedModel& loaded, const at::Tensor& labels) {
  const Value* type = loaded.config.find("problem_type");
  if (type != nullptr && type->is_string()) return type->as_string();
  if (loaded.num_labels == 1) return "regression";
  return labels.is_floating_point() ? "multi_label_classification" : "single_label_classification";
}

void check_labels(const at::Tensor& labels, std::int64_t expected, const char* of_what) {
  if (labels.numel() == expected) return;
  throw_bad_input("'labels' has another size than the scores", std::to_string(labels.numel()),
                  std::to_string(expected) + of_what, "--input");
}

void check_classes(const at::Tensor& labels, std::int64_t num_labels) {
  const at::Tensor bad =
      labels.ge(num_labels).logical_or(labels.lt(0).logical_and(labels.ne(kIgnoredLabel)));
  if (!bad.any().item<bool>()) return;
  throw_bad_input("a label is no class of the model",
                  std::to_string(labels.masked_select(bad)[0].item<std::int64_t>()),
                  "0 to " + std::to_string(num_labels - 1) + ", or -100", "--input: labels",
                  "the model's num_labels is " + std::to_string(num_labels));
}

/// The mean loss of logits [rows, labels] and how many labels it is over.
std::pair<at::Tensor, std::int64_t> mean_loss(const LoadedModel& loaded, const at::Tensor& logits,
                                              const at::Tensor& given) {
  const at::Tensor labels = given.to(logits.device());
  const std::string type = loaded.task == Task::kTokenClassification ? "single_label_classification"
                                                                     : problem_type(loaded, labels);
  const at::Tensor scores = logits.to(at::kFloat);
  if (type != "single_label_classification") {
    check_labels(labels, scores.numel(), " numbers, as many as scores");
    const at::Tensor targets = labels.to(at::kFloat).view_as(scores);
    return {type == "regression" ? at::mse_loss(scores, targets)
                                 : at::binary_cross_entropy_with_logits(scores, targets),
            scores.size(0)};
  }
  check_labels(labels, scores.size(0), " classes, one for each row of scores");
  const at::Tensor classes = labels.reshape({-1}).to(at::kLong);
  check_classes(classes, loaded.num_labels);
  const std::int64_t count = classes.ne(kIgnoredLabel).sum().item<std::int64_t>();
  return {
      ops::cross_entropy(scores, classes) / static_cast<double>(std::max<std::int64_t>(count, 1)),
      count};
}

Tensors score_embedding(const ModelOutput& output, const TaskScoreOptions& options) {
  if (options.gradients)
    throw_bad_input("an embedding has no loss of its own", "--gradients", "scores of a batch",
                    "the command line");
  const ops::Pooling pooling =
      options.pooling == "last" ? ops::Pooling::kLast : ops::Pooling::kMean;
  if (options.pooling != "last" && options.pooling != "mean")
    throw_bad_input("there is no such pooling", options.pooling, "mean or last", "--pooling");
  return {{"embeddings",
           ops::pool_documents(output.hidden, output.layout, pooling, options.normalize)}};
}

}  // namespace

Tensors score_task(const LoadedModel& loaded, const Tensors& input,
                   const TaskScoreOptions& options) {
  const bool has_labels = input.contains("labels");
  if (options.gradients && !has_labels)
    throw_bad_input("gradients need labels", {}, "a tensor 'labels' in the input", "--gradients");
  const at::AutoGradMode grad_mode(options.gradients);
  Model& model = *loaded.model;
  const ModelOutput output = model.forward(model_input(input));
  if (loaded.task == Task::kEmbedding) return score_embedding(output, options);

  const auto scope = model.head().scope();
  Tensors results;
  at::Tensor logits;
  at::Tensor labels;
  if (loaded.task == Task::kTokenClassification) {
    logits = model.head().project(output.hidden);
    if (has_labels) labels = predicted_labels(output.layout, input.at("labels"), true);
    results.emplace("logits", output.layout.unflatten(logits.detach().to(at::kFloat)));
  } else {
    const at::Tensor rows =
        ops::last_token_rows(output.layout, input.at("input_ids"), padding_id(loaded.config))
            .to(output.hidden.device());
    logits = model.head().project(output.hidden.index_select(0, rows));
    if (has_labels) labels = input.at("labels");
    results.emplace("logits", logits.detach().to(at::kFloat));
  }
  if (!options.logits) results.clear();
  if (!has_labels) return results;
  const auto [loss, count] = mean_loss(loaded, logits, labels);
  results.emplace("loss", loss.detach());
  results.emplace("num_label_tokens", at::tensor(count, at::TensorOptions().dtype(at::kLong)));
  if (!options.gradients) return results;
  loss.backward();
  add_all_gradients(model, loaded.adapter.get(), results);
  return results;
}

}  // namespace espalier

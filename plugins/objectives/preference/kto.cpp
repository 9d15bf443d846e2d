// Two passes more than DPO's for the estimate of the divergence, without gradient.
#include "kto.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "answer_scores.h"
#include "espalier/base/error.h"

namespace espalier {
namespace {

using Ids = std::vector<std::int64_t>;

Ids to_list(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kCPU, at::kLong).contiguous();
  const auto* data = flat.const_data_ptr<std::int64_t>();
  return {data, data + flat.numel()};
}

/// A document and where its answer begins.
struct Document {
  Ids ids;
  Ids labels;
  std::ptrdiff_t answer = 0;
};

std::vector<Document> documents_of(const Batch& batch) {
  const TokenLayout layout = make_layout({batch.tensors});
  const Ids ids = to_list(layout.flatten(batch.get("input_ids")));
  const Ids labels = to_list(layout.flatten(batch.get("labels")));
  std::vector<Document> documents;
  for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d) {
    const auto begin = static_cast<std::ptrdiff_t>(layout.document_starts[d]);
    const auto end = static_cast<std::ptrdiff_t>(layout.document_starts[d + 1]);
    Document& document = documents.emplace_back();
    document.ids.assign(ids.begin() + begin, ids.begin() + end);
    document.labels.assign(labels.begin() + begin, labels.begin() + end);
    const auto first = std::find_if(document.labels.begin(), document.labels.end(),
                                    [](std::int64_t label) { return label != kIgnoredLabel; });
    document.answer = first - document.labels.begin();
  }
  return documents;
}

ObjectiveTerm measured(const char* name, const at::Tensor& sum, double weight) {
  ObjectiveTerm term{name, sum.detach().to(at::kFloat), weight};
  term.measured_only = true;
  return term;
}

}  // namespace

ConfigSchema<KtoConfig> KtoConfig::schema() {
  return ConfigSchema<KtoConfig>()
      .field("beta", &KtoConfig::beta, "how dear it is to leave the reference")
      .more_than(0)
      .field("loss_type", &KtoConfig::loss_type,
             "kto, or apo_zero_unpaired (D'Oosterlinck et al. 2024), which needs no divergence")
      .one_of({"kto", "apo_zero_unpaired"})
      .field("desirable_weight", &KtoConfig::desirable_weight, "weight of good answers")
      .at_least(0)
      .field("undesirable_weight", &KtoConfig::undesirable_weight, "weight of bad answers")
      .at_least(0);
}

Batch mismatched(const Batch& batch, std::int64_t max_length) {
  ESPALIER_ASSERT(!batch.labels_shifted, "answers are found by labels at their own tokens");
  const std::vector<Document> documents = documents_of(batch);
  Ids ids;
  Ids labels;
  Ids starts = {0};
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const Document& prompt = documents[d];
    const Document& answer = documents[(d + documents.size() - 1) % documents.size()];
    ids.insert(ids.end(), prompt.ids.begin(), prompt.ids.begin() + prompt.answer);
    labels.insert(labels.end(), static_cast<std::size_t>(prompt.answer), kIgnoredLabel);
    ids.insert(ids.end(), answer.ids.begin() + answer.answer, answer.ids.end());
    labels.insert(labels.end(), answer.labels.begin() + answer.answer, answer.labels.end());
    if (max_length > 0) {
      const auto longest = static_cast<std::size_t>(starts.back() + max_length);
      ids.resize(std::min(ids.size(), longest));
      labels.resize(ids.size());
    }
    starts.push_back(static_cast<std::int64_t>(ids.size()));
  }
  Batch other;
  other.tensors = {{"input_ids", at::tensor(ids, at::kLong).unsqueeze(0)},
                   {"labels", at::tensor(labels, at::kLong).unsqueeze(0)},
                   {"cu_seqlens", at::tensor(starts, at::kLong)}};
  return other;
}

double Kto::weight(const Batch& batch) const {
  const std::int64_t documents = make_layout({batch.tensors}).documents();
  const at::Tensor desirable = batch.get("desirable");
  if (desirable.defined() && desirable.numel() == documents) return static_cast<double>(documents);
  throw_bad_input("the batch does not say which answers are good",
                  desirable.defined() ? std::to_string(desirable.numel()) + " marks for " +
                                            std::to_string(documents) + " conversations"
                                      : "",
                  "a mark for each conversation", "[dataset]",
                  "use a dataset of answers that are marked one by one");
}

at::Tensor Kto::divergence(const ObjectiveContext& context, const Batch& batch) const {
  const at::NoGradGuard no_grad;
  const Batch other = mismatched(batch, context.model.shape().max_positions);
  const at::Tensor policy = score_documents(context.model, other).sums;
  at::Tensor reference;
  context.reference([&] { reference = score_documents(context.model, other).sums; });
  return (policy - reference).mean().clamp_min(0);
}

std::vector<ObjectiveTerm> Kto::compute(const ObjectiveContext& context, const Batch& batch) {
  if (!context.has_reference) {
    throw_bad_input("there is no model before training to compare with", {},
                    "an adapter, which is switched off for the reference", "[objective]",
                    "add a [peft] section");
  }
  const double weight = this->weight(batch);
  const bool estimates = config_.loss_type == "kto";
  saw_several_ = saw_several_ || weight > 1;
  if (estimates && !saw_several_) {
    throw_bad_input("one answer a micro-batch gives no estimate of the divergence",
                    "step_scheduler.local_batch_size = 1", "2 or more", "[objective]",
                    "raise local_batch_size, or set loss_type = \"apo_zero_unpaired\"");
  }
  // The pass with a gradient comes last, so that what it leaves for its backward pass is its own.
  at::Tensor reference;
  context.reference([&] { reference = score_documents(context.model, batch).sums; });
  const at::Tensor shift = estimates ? divergence(context, batch) : at::zeros_like(reference[0]);
  const at::Tensor ratio = score_documents(context.model, batch).sums - reference;

  const at::Tensor good = batch.get("desirable").to(ratio.device()).gt(0.5);
  const at::Tensor of_good = 1 - at::sigmoid((ratio - shift) * config_.beta);
  const at::Tensor of_bad = 1 - at::sigmoid((shift - ratio) * config_.beta);
  const at::Tensor losses =
      at::where(good, of_good * config_.desirable_weight, of_bad * config_.undesirable_weight);
  const at::Tensor rewards = ratio.detach() * config_.beta;
  std::vector<ObjectiveTerm> terms = {
      {"loss", losses.sum(), weight},
      measured("reward_desirable", at::where(good, rewards, 0.0).sum(), weight),
      measured("reward_undesirable", at::where(good, 0.0, rewards).sum(), weight)};
  if (estimates) terms.push_back(measured("kl", shift * weight, weight));
  return terms;
}

}  // namespace espalier

#include "engine/generate/score_filters.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
constexpr std::int64_t kTopHTokens = 100;  // more do not change the entropy

void require(bool condition, const char* option, double found, const char* expected) {
  if (!condition)
    throw_bad_input(std::string(option) + " is out of range", std::to_string(found), expected,
                    option);
}

at::Tensor index_of(const std::vector<std::int64_t>& ids) { return at::tensor(ids, at::kLong); }

at::Tensor without(const at::Tensor& scores, const std::set<std::int64_t>& ids) {
  std::vector<std::int64_t> inside;
  for (const std::int64_t id : ids) {
    if (id >= 0 && id < scores.size(0)) inside.push_back(id);
  }
  return inside.empty() ? scores : scores.index_fill(0, index_of(inside), kMinusInfinity);
}

at::Tensor penalised(const at::Tensor& scores, double penalty,
                     const std::vector<std::int64_t>& history) {
  const std::set<std::int64_t> seen(history.begin(), history.end());
  const at::Tensor index = index_of({seen.begin(), seen.end()});
  const at::Tensor picked = scores.index_select(0, index);
  return scores.index_copy(0, index, at::where(picked.lt(0), picked * penalty, picked / penalty));
}

/// Ids that would complete an n-gram which the text has already.
std::set<std::int64_t> repeating(const std::vector<std::int64_t>& text, std::size_t size) {
  std::set<std::int64_t> ids;
  if (text.size() < size) return ids;
  const auto suffix = text.end() - static_cast<std::ptrdiff_t>(size - 1);
  for (std::size_t i = 0; i + size <= text.size(); ++i) {
    if (std::equal(suffix, text.end(), text.begin() + static_cast<std::ptrdiff_t>(i)))
      ids.insert(text[i + size - 1]);
  }
  return ids;
}

/// Masks `removed` [vocab], but none of the `keep` most likely tokens.
at::Tensor masked(const at::Tensor& scores, at::Tensor removed, std::int64_t keep) {
  const at::Tensor best = std::get<1>(at::topk(scores, std::min(keep, scores.size(0))));
  removed = removed.index_fill(0, best, false);
  return scores.masked_fill(removed, kMinusInfinity);
}

/// `removed` is in the order of `order`; gives it in that of the vocabulary.
at::Tensor in_vocabulary_order(const at::Tensor& removed, const at::Tensor& order) {
  return at::zeros_like(removed).scatter(0, order, removed);
}

at::Tensor keep_top_h(const at::Tensor& scores, double top_h) {
  const auto [best, order] = at::topk(scores, std::min(kTopHTokens, scores.size(0)));
  const at::Tensor chances = at::softmax(best, -1);
  const at::Tensor parts = -(chances * at::log_softmax(best, -1)).nan_to_num(0.0);
  at::Tensor kept = parts.cumsum(0).le(parts.sum() * top_h);
  kept[0].fill_(true);
  const at::Tensor mask = at::zeros_like(scores, at::kBool).scatter(0, order, kept);
  return scores.masked_fill(mask.logical_not(), kMinusInfinity);
}

at::Tensor keep_top_k(const at::Tensor& scores, std::int64_t top_k) {
  const at::Tensor lowest = std::get<0>(at::topk(scores, std::min(top_k, scores.size(0))))[-1];
  return scores.masked_fill(scores.lt(lowest), kMinusInfinity);
}

/// Keeps the smallest set of most likely tokens whose probabilities reach `top_p`.
at::Tensor keep_top_p(const at::Tensor& scores, double top_p, std::int64_t keep) {
  const auto [sorted, order] = at::sort(scores, /*dim=*/-1, /*descending=*/false);
  at::Tensor removed = at::softmax(sorted, -1).cumsum(-1).le(1.0 - top_p);
  const std::int64_t kept = std::min(keep, scores.size(0));
  removed.narrow(0, scores.size(0) - kept, kept).fill_(false);
  return scores.masked_fill(in_vocabulary_order(removed, order), kMinusInfinity);
}

/// Keeps the tokens whose surprise is nearest to the entropy, until they have probability `mass`.
at::Tensor keep_typical(const at::Tensor& scores, double mass, std::int64_t keep) {
  const at::Tensor surprise = -at::log_softmax(scores, -1);
  const at::Tensor entropy = (surprise * (-surprise).exp()).nansum();
  const auto [distance, order] = at::sort((surprise - entropy).abs());
  const at::Tensor cumulative = at::softmax(scores.index_select(0, order), -1).cumsum(-1);
  const std::int64_t last =
      std::min(cumulative.lt(mass).sum().item<std::int64_t>(), scores.size(0) - 1);
  at::Tensor removed = distance.gt(distance[last]);
  removed.narrow(0, 0, std::min(keep, scores.size(0))).fill_(false);
  return scores.masked_fill(in_vocabulary_order(removed, order), kMinusInfinity);
}

at::Tensor keep_at_least(const at::Tensor& scores, double chance, std::int64_t keep) {
  return masked(scores, at::softmax(scores, -1).lt(chance), keep);
}

double eta_of(const at::Tensor& scores, double epsilon) {
  const at::Tensor log_chances = at::log_softmax(scores, -1);
  const double entropy = -(log_chances * log_chances.exp()).nansum().item<double>();
  return std::min(epsilon, std::sqrt(epsilon) * std::exp(-entropy));
}

}  // namespace

void SamplingOptions::check() const {
  require(repetition_penalty > 0, "--repetition-penalty", repetition_penalty, "a number > 0");
  require(no_repeat_ngram_size >= 0, "--no-repeat-ngram-size",
          static_cast<double>(no_repeat_ngram_size), "0 (off) or more");
  require(min_new_tokens >= 0, "--min-new-tokens", static_cast<double>(min_new_tokens),
          "0 or more");
  require(temperature > 0, "--temperature", temperature, "a number > 0");
  require(top_h >= 0 && top_h <= 1, "--top-h", top_h, "a number > 0 and <= 1");
  require(top_k >= 0, "--top-k", static_cast<double>(top_k), "0 (off) or more");
  require(top_p > 0 && top_p <= 1, "--top-p", top_p, "a number > 0 and <= 1");
  require(min_p >= 0 && min_p <= 1, "--min-p", min_p, "a number >= 0 and <= 1");
  require(typical_p > 0 && typical_p <= 1, "--typical-p", typical_p, "a number > 0 and <= 1");
  require(epsilon_cutoff >= 0 && epsilon_cutoff < 1, "--epsilon-cutoff", epsilon_cutoff,
          "a number >= 0 and < 1");
  require(eta_cutoff >= 0 && eta_cutoff < 1, "--eta-cutoff", eta_cutoff, "a number >= 0 and < 1");
}

at::Tensor process_scores(const SamplingOptions& options, const at::Tensor& scores,
                          const TextSoFar& text) {
  at::Tensor result = scores;
  if (options.repetition_penalty != 1.0)
    result = penalised(result, options.repetition_penalty, text.ids);
  if (options.no_repeat_ngram_size > 0)
    result = without(result,
                     repeating(text.ids, static_cast<std::size_t>(options.no_repeat_ngram_size)));
  const auto answered = static_cast<std::int64_t>(text.ids.size()) - text.prompt_length;
  if (answered < options.min_new_tokens) result = without(result, text.stop_ids);
  return result;
}

at::Tensor filter_scores(const SamplingOptions& options, const at::Tensor& scores,
                         std::int64_t keep) {
  at::Tensor result = options.temperature == 1.0 ? scores : scores / options.temperature;
  if (options.top_h > 0) result = keep_top_h(result, options.top_h);
  if (options.top_k > 0) result = keep_top_k(result, std::max(options.top_k, keep));
  if (options.top_p < 1.0) result = keep_top_p(result, options.top_p, keep);
  if (options.min_p > 0) {
    const double best = at::softmax(result, -1).max().item<double>();
    result = keep_at_least(result, best * options.min_p, keep);
  }
  if (options.typical_p < 1.0) result = keep_typical(result, options.typical_p, keep);
  if (options.epsilon_cutoff > 0) result = keep_at_least(result, options.epsilon_cutoff, keep);
  if (options.eta_cutoff > 0)
    result = keep_at_least(result, eta_of(result, options.eta_cutoff), keep);
  return result;
}

}  // namespace espalier

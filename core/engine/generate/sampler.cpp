#include "engine/generate/sampler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/random.h"

namespace espalier {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

void require(bool condition, const char* option, double found, const char* expected) {
  if (!condition)
    throw_bad_input(std::string(option) + " is out of range", std::to_string(found), expected,
                    option);
}

/// Keeps the smallest set of most likely tokens whose probabilities reach `top_p`, at least one.
at::Tensor keep_top_p(const at::Tensor& logits, double top_p) {
  const auto [sorted, order] = at::sort(logits, /*dim=*/-1, /*descending=*/false);
  const at::Tensor cumulative = at::softmax(sorted, -1).cumsum(-1);
  at::Tensor removed = cumulative.le(1.0 - top_p);
  removed[-1].fill_(false);
  return logits.masked_fill(at::zeros(logits.sizes(), removed.options()).scatter(0, order, removed),
                            kMinusInfinity);
}

}  // namespace

void SamplingOptions::check() const {
  require(repetition_penalty > 0, "--repetition-penalty", repetition_penalty, "a number > 0");
  require(temperature > 0, "--temperature", temperature, "a number > 0");
  require(top_k >= 0, "--top-k", static_cast<double>(top_k), "0 (off) or more");
  require(top_p > 0 && top_p <= 1, "--top-p", top_p, "a number > 0 and <= 1");
  require(min_p >= 0 && min_p <= 1, "--min-p", min_p, "a number >= 0 and <= 1");
}

Sampler::Sampler(SamplingOptions options, std::uint64_t stream)
    : options_(options), stream_(stream) {
  options_.check();
}

at::Tensor Sampler::penalised(const at::Tensor& logits,
                              const std::vector<std::int64_t>& history) const {
  at::Tensor scores = logits.to(at::kDouble).clone();
  if (options_.repetition_penalty == 1.0) return scores;
  const std::set<std::int64_t> seen(history.begin(), history.end());
  const at::Tensor index =
      at::tensor(std::vector<std::int64_t>(seen.begin(), seen.end()), at::kLong);
  const at::Tensor picked = scores.index_select(0, index);
  scores.index_copy_(0, index,
                     at::where(picked.lt(0), picked * options_.repetition_penalty,
                               picked / options_.repetition_penalty));
  return scores;
}

at::Tensor Sampler::probabilities(const at::Tensor& logits,
                                  const std::vector<std::int64_t>& history) const {
  at::Tensor scores = penalised(logits, history) / options_.temperature;
  if (options_.top_k > 0 && options_.top_k < scores.size(0)) {
    const at::Tensor lowest = std::get<0>(at::topk(scores, options_.top_k))[-1];
    scores = scores.masked_fill(scores.lt(lowest), kMinusInfinity);
  }
  if (options_.top_p < 1.0) scores = keep_top_p(scores, options_.top_p);
  if (options_.min_p > 0) {
    const at::Tensor chances = at::softmax(scores, -1);
    scores = scores.masked_fill(chances.lt(chances.max() * options_.min_p), kMinusInfinity);
  }
  return at::softmax(scores, -1);
}

std::int64_t Sampler::pick(const at::Tensor& logits, const std::vector<std::int64_t>& history) {
  if (!options_.sample) return penalised(logits, history).argmax().item<std::int64_t>();
  const at::Tensor cumulative = probabilities(logits, history).cumsum(0);
  const double draw =
      CounterRandom(options_.seed, stream_).uniform(draws_++) * cumulative[-1].item<double>();
  return cumulative.le(draw).sum().item<std::int64_t>();
}

}  // namespace espalier

#include "engine/generate/sampler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/softmax.h>

#include <algorithm>

#include "espalier/base/random.h"

namespace espalier {

Sampler::Sampler(SamplingOptions options, std::uint64_t stream)
    : options_(options), stream_(stream) {
  options_.check();
}

at::Tensor Sampler::probabilities(const at::Tensor& logits, const TextSoFar& text) const {
  return at::softmax(
      filter_scores(options_, process_scores(options_, logits.to(at::kDouble), text)), -1);
}

std::int64_t Sampler::pick(const at::Tensor& logits, const TextSoFar& text) {
  if (!options_.sample)
    return process_scores(options_, logits.to(at::kDouble), text).argmax().item<std::int64_t>();
  const at::Tensor cumulative = probabilities(logits, text).cumsum(0);
  const double draw =
      CounterRandom(options_.seed, stream_).uniform(draws_++) * cumulative[-1].item<double>();
  return std::min(cumulative.le(draw).sum().item<std::int64_t>(), logits.size(0) - 1);
}

}  // namespace espalier

#include "engine/parallel/value_gatherer.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier {

/// Rank 0's number, on every rank.
std::int64_t ValueGatherer::tell(std::int64_t index) {
  at::Tensor number = at::empty({1}, at::TensorOptions().dtype(at::kLong));
  number.fill_(index);
  world_.all()->broadcast(number, 0, "which parameter is next")->wait();
  return number.item<std::int64_t>();
}

at::Tensor ValueGatherer::value(std::size_t index) {
  const auto wanted = static_cast<std::int64_t>(index);
  if (kept_index_ == wanted) return kept_;
  kept_.reset();
  tell(wanted);
  kept_ = strategy_.full_value(*parameters_[index]).detach();
  kept_index_ = wanted;
  return kept_;
}

at::Tensor ValueGatherer::value(const Parameter& parameter) {
  const auto place =
      std::find_if(parameters_.begin(), parameters_.end(),
                   [&](const auto& candidate) { return candidate.get() == &parameter; });
  ESPALIER_ASSERT(place != parameters_.end(), "a parameter that no rank knows is asked for");
  return value(static_cast<std::size_t>(place - parameters_.begin()));
}

void ValueGatherer::finish() { tell(-1); }

void ValueGatherer::serve() {
  for (std::int64_t index = tell(0); index >= 0; index = tell(0))
    strategy_.full_value(*parameters_[static_cast<std::size_t>(index)]);
}

}  // namespace espalier

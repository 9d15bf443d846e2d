#include "report/thinning.h"

#include <algorithm>
#include <cmath>

namespace espalier::report {

std::vector<std::size_t> thin(const std::vector<double>& values, std::size_t limit) {
  std::vector<std::size_t> finite;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) finite.push_back(i);
  }
  if (finite.size() <= limit) return finite;
  const std::size_t stretches = (limit - 2) / 2;
  const std::size_t inner = finite.size() - 2;
  std::vector<std::size_t> places = {finite.front()};
  for (std::size_t s = 0; s < stretches; ++s) {
    const auto begin = finite.begin() + 1 + static_cast<std::ptrdiff_t>(s * inner / stretches);
    const auto end = finite.begin() + 1 + static_cast<std::ptrdiff_t>((s + 1) * inner / stretches);
    const auto [low, high] = std::minmax_element(
        begin, end, [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
    places.push_back(std::min(*low, *high));
    if (*low != *high) places.push_back(std::max(*low, *high));
  }
  places.push_back(finite.back());
  return places;
}

}  // namespace espalier::report

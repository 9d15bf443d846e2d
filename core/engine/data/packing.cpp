#include "engine/data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace espalier {

std::vector<std::size_t> by_length(std::span<const std::int64_t> lengths) {
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lengths[a] > lengths[b]; });
  return order;
}

std::vector<std::vector<std::size_t>> pack_best_fit(std::span<const std::int64_t> lengths,
                                                    std::int64_t capacity) {
  std::vector<std::vector<std::size_t>> rows;
  std::set<std::pair<std::int64_t, std::size_t>> room;  // what is left in a row, and the row
  for (const std::size_t sample : by_length(lengths)) {
    const std::int64_t length = lengths[sample];
    const auto best = room.lower_bound({length, 0});
    std::size_t row = rows.size();
    std::int64_t left = capacity;
    if (best != room.end()) {
      left = best->first;
      row = best->second;
      room.erase(best);
    } else {
      rows.emplace_back();
    }
    rows[row].push_back(sample);
    if (left > length) room.emplace(left - length, row);
  }
  for (std::vector<std::size_t>& row : rows) std::sort(row.begin(), row.end());
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace espalier

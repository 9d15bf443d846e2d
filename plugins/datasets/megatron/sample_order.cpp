#include "sample_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "espalier/base/error.h"

namespace espalier::megatron {
namespace {

/// Below this share of an epoch, the last one is not mixed with those before.
constexpr double kSeparateBelow = 0.80;

/// Every document `epochs` times, shuffled.
void append_documents(std::pair<std::int64_t, std::int64_t> chosen, std::int64_t epochs,
                      std::mt19937& random, std::vector<std::int32_t>& out) {
  std::vector<std::int32_t> documents;
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (std::int64_t i = chosen.first; i < chosen.second; ++i)
      documents.push_back(static_cast<std::int32_t>(i));
  }
  numpy_shuffle(random, documents);
  out.insert(out.end(), documents.begin(), documents.end());
}

void append_range(std::int64_t from, std::int64_t to, std::mt19937& random,
                  std::vector<std::int64_t>& out) {
  std::vector<std::int64_t> range(static_cast<std::size_t>(to - from));
  std::iota(range.begin(), range.end(), from);
  numpy_shuffle(random, range);
  out.insert(out.end(), range.begin(), range.end());
}

void find_starts(std::span<const std::int32_t> lengths, std::int64_t samples,
                 std::int64_t seq_length, SampleOrder& order) {
  std::int64_t place = 0;
  std::int64_t offset = 0;
  const auto length_at = [&](std::int64_t i) {
    return std::int64_t{
        lengths[static_cast<std::size_t>(order.documents[static_cast<std::size_t>(i)])]};
  };
  order.starts.emplace_back(0, 0);
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    std::int64_t remaining = seq_length + 1;
    while (remaining > 0) {
      const std::int64_t left = length_at(place) - offset;
      remaining -= left;
      if (remaining <= 0) {
        offset += remaining + left - 1;  // the last token begins the next sample
      } else if (place + 1 == static_cast<std::int64_t>(order.documents.size())) {
        offset = length_at(place) - 1;
        break;
      } else {
        ++place;
        offset = 0;
      }
    }
    order.starts.emplace_back(place, offset);
  }
}

}  // namespace

SampleOrder order_samples(std::span<const std::int32_t> lengths,
                          std::pair<std::int64_t, std::int64_t> chosen,
                          std::optional<std::int64_t> num_samples, std::int64_t seq_length,
                          std::uint32_t seed) {
  std::int64_t tokens = 0;  // of an epoch
  for (std::int64_t i = chosen.first; i < chosen.second; ++i)
    tokens += lengths[static_cast<std::size_t>(i)];
  if (tokens <= seq_length) {
    throw_bad_input("the documents are shorter than one sample", std::to_string(tokens) + " tokens",
                    std::to_string(seq_length + 1) + " tokens", "seq_length",
                    "use a shorter seq_length, or a split with more documents");
  }
  std::int64_t epochs = 1;
  if (num_samples) epochs = (*num_samples * seq_length + 1 + tokens - 1) / tokens;
  epochs = std::max<std::int64_t>(epochs, 1);
  const std::int64_t before_last = ((epochs - 1) * tokens - 1) / seq_length;
  const std::int64_t per_epoch = (tokens - 1) / seq_length;
  const bool separate =
      epochs > 1 && *num_samples - before_last <
                        static_cast<std::int64_t>(kSeparateBelow * static_cast<double>(per_epoch));

  std::mt19937 random(seed);
  SampleOrder order;
  append_documents(chosen, separate ? epochs - 1 : epochs, random, order.documents);
  if (separate) append_documents(chosen, 1, random, order.documents);
  const std::int64_t samples = (epochs * tokens - 1) / seq_length;
  find_starts(lengths, samples, seq_length, order);
  append_range(0, separate ? before_last : samples, random, order.shuffle);
  if (separate) append_range(before_last, samples, random, order.shuffle);
  return order;
}

std::pair<std::int64_t, std::int64_t> split_range(const std::string& split, int part,
                                                  std::int64_t count) {
  constexpr std::size_t kParts = 3;
  std::vector<double> shares;
  for (std::size_t i = 0; i < split.size();) {
    const std::size_t begin = split.find_first_of(".0123456789", i);
    if (begin == std::string::npos) break;
    const std::size_t end = std::min(split.find_first_not_of(".0123456789", begin), split.size());
    shares.push_back(std::strtod(split.substr(begin, end - begin).c_str(), nullptr));
    i = end;
  }
  const bool readable = split.find_first_not_of(" ,.0123456789") == std::string::npos;
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  if (!readable || shares.empty() || shares.size() > kParts || total <= 0) {
    throw_bad_input("'split' can't be read", split,
                    "the shares of train, validation and test, as in \"969,30,1\"", "split");
  }
  shares.resize(kParts, 0.0);
  const auto place = [&](double share) {
    return static_cast<std::int64_t>(std::nearbyint(share * static_cast<double>(count)));
  };
  double from = 0;
  for (int i = 0; i < part; ++i) from += shares[static_cast<std::size_t>(i)] / total;
  const double to = from + shares[static_cast<std::size_t>(part)] / total;
  return {place(from), place(to)};
}

}  // namespace espalier::megatron

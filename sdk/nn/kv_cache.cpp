#include "espalier/nn/kv_cache.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace espalier {
namespace {

constexpr std::int64_t kFirstCapacity = 64;

/// Room for `needed` rows, the first `used` kept.
void reserve(at::Tensor& stored, const at::Tensor& like, std::int64_t used, std::int64_t needed) {
  if (stored.defined() && stored.size(0) >= needed) return;
  std::vector<std::int64_t> shape(like.sizes().begin(), like.sizes().end());
  shape[0] = std::max({needed, kFirstCapacity, stored.defined() ? 2 * stored.size(0) : 0});
  at::Tensor grown = at::empty(shape, like.options());
  if (used > 0) grown.narrow(0, 0, used).copy_(stored.narrow(0, 0, used));
  stored = std::move(grown);
}

}  // namespace

KvCache::KvCache(std::int64_t layers) : layers_(static_cast<std::size_t>(layers)) {}

std::int64_t KvCache::length(std::int64_t document) const {
  const auto d = static_cast<std::size_t>(document);
  return d < lengths_.size() ? lengths_[d] : 0;
}

KvCache::Stored& KvCache::stored(std::int64_t layer, std::int64_t document) {
  std::vector<Stored>& documents = layers_[static_cast<std::size_t>(layer)];
  if (documents.size() <= static_cast<std::size_t>(document))
    documents.resize(static_cast<std::size_t>(document) + 1);
  return documents[static_cast<std::size_t>(document)];
}

std::vector<at::Tensor>& KvCache::state(std::int64_t layer, std::int64_t document) {
  return stored(layer, document).state;
}

std::pair<at::Tensor, at::Tensor> KvCache::append(std::int64_t layer, std::int64_t document,
                                                  const at::Tensor& k, const at::Tensor& v) {
  Stored& stored = this->stored(layer, document);
  const std::int64_t used = length(document);
  const std::int64_t total = used + k.size(0);
  reserve(stored.k, k, used, total);
  reserve(stored.v, v, used, total);
  stored.k.narrow(0, used, k.size(0)).copy_(k);
  stored.v.narrow(0, used, v.size(0)).copy_(v);
  return {stored.k.narrow(0, 0, total), stored.v.narrow(0, 0, total)};
}

void KvCache::reorder(const std::vector<std::int64_t>& documents) {
  const auto pick = [&](auto& list) {
    std::remove_reference_t<decltype(list)> picked;
    for (const std::int64_t document : documents)
      picked.push_back(list[static_cast<std::size_t>(document)]);
    list = std::move(picked);
  };
  for (std::vector<Stored>& layer : layers_) {
    pick(layer);
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const bool seen_before =
          std::find(documents.begin(), documents.begin() + static_cast<std::ptrdiff_t>(i),
                    documents[i]) != documents.begin() + static_cast<std::ptrdiff_t>(i);
      if (!seen_before || !layer[i].k.defined()) continue;
      layer[i].k = layer[i].k.clone();
      layer[i].v = layer[i].v.clone();
    }
  }
  pick(lengths_);
}

void KvCache::advance(const std::vector<std::int64_t>& tokens) {
  lengths_.resize(std::max(lengths_.size(), tokens.size()), 0);
  for (std::size_t d = 0; d < tokens.size(); ++d) lengths_[d] += tokens[d];
}

}  // namespace espalier

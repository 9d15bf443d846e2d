#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// Keys and values of the documents that a generation continues, and the states of layers that keep
/// one instead. Grows by doubling, so appending one token is cheap. Documents are numbered from 0;
/// one that was never seen is empty. One thread at a time; in inference only, nothing carries a
/// gradient.
class ESPALIER_API KvCache {
 public:
  explicit KvCache(std::int64_t layers);

  /// Tokens stored for a document (the same in every layer once a forward pass is through).
  std::int64_t length(std::int64_t document) const;
  /// Appends k, v [tokens, kv_heads, head_dim] of one document and returns all of them, oldest
  /// first: views of the cache, good until the next append of the layer and document.
  std::pair<at::Tensor, at::Tensor> append(std::int64_t layer, std::int64_t document,
                                           const at::Tensor& k, const at::Tensor& v);
  /// The state of a recurrent layer after what is stored of a document, in tensors of the layer's
  /// choice; empty at the start. The reference is good until the next call. Replace the tensors,
  /// never write into them: documents that were copied share them.
  std::vector<at::Tensor>& state(std::int64_t layer, std::int64_t document);
  /// Keeps the documents listed, in that order, with repeats (beam search). Copies where one is
  /// kept twice.
  void reorder(const std::vector<std::int64_t>& documents);
  /// Called by the model at the end of a forward pass: tokens appended to each document.
  void advance(const std::vector<std::int64_t>& tokens);

 private:
  struct Stored {
    at::Tensor k;  ///< [capacity, kv_heads, head_dim]
    at::Tensor v;
    std::vector<at::Tensor> state;
  };
  Stored& stored(std::int64_t layer, std::int64_t document);

  std::vector<std::vector<Stored>> layers_;  ///< [layer][document]
  std::vector<std::int64_t> lengths_;        ///< [document]
};

}  // namespace espalier

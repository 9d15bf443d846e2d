#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

class KvCache;

/// Where the real tokens of a [batch, seq] input lie. Models compute on flat tokens [tokens, ...]
/// without padding, and attention runs inside documents only, so padding, packing and plain batches
/// are one case.
struct ESPALIER_API TokenLayout {
  std::int64_t batch = 0;
  std::int64_t sequence = 0;
  /// Half-open runs of flat tokens that attend to each other; in order, without gaps.
  std::vector<std::int64_t>
      document_starts;  ///< documents + 1 entries, first 0, last the number of tokens
  /// Flat token -> index into [batch * seq]; undefined when every position is a real token.
  at::Tensor token_index;

  std::int64_t tokens() const { return document_starts.empty() ? 0 : document_starts.back(); }
  std::int64_t documents() const { return static_cast<std::int64_t>(document_starts.size()) - 1; }

  /// [batch, seq, ...] -> [tokens, ...].
  at::Tensor flatten(const at::Tensor& padded) const;
  /// [tokens, ...] -> [batch, seq, ...], zeros at padding.
  at::Tensor unflatten(const at::Tensor& flat) const;
};

/// Named tensors in, as a collator or a caller makes them:
///   input_ids      [batch, seq] int64  (or inputs_embeds [batch, seq, embed])
///   attention_mask [batch, seq], 1 = token, 0 = padding (optional)
///   position_ids   [batch, seq] int64 (optional; default: position inside the document)
///   cu_seqlens     [documents + 1], boundaries in the flattened [batch * seq] (optional; default:
///   a position that
///                  restarts at 0 begins a document). Or [batch, n]: boundaries inside each row,
///                  padded with the last.
struct ModelInput {
  std::unordered_map<std::string, at::Tensor> tensors;
  KvCache* cache =
      nullptr;  ///< keys and values of earlier calls; the tokens continue its documents

  /// Undefined when absent.
  at::Tensor get(const std::string& name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() ? at::Tensor() : found->second;
  }
};

/// Finds documents and padding. Throws Error(kBadInput) when shapes disagree or boundaries are out
/// of order.
ESPALIER_API TokenLayout make_layout(const ModelInput& input);

/// Labels of a next-token objective: flat [tokens] int64 where entry t is the label that the token
/// at t has to predict: the next label of the same document, -100 at the end of each. `labels` is
/// [batch, seq].
ESPALIER_API at::Tensor shift_labels(const TokenLayout& layout, const at::Tensor& labels);

/// What each flat token has to predict, [tokens] int64: `labels` [batch, seq] as they are when they
/// are `shifted` already, and shift_labels of them otherwise.
ESPALIER_API at::Tensor predicted_labels(const TokenLayout& layout, const at::Tensor& labels,
                                         bool shifted);

inline constexpr std::int64_t kIgnoredLabel = -100;

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "espalier/base/api.h"
#include "espalier/sdk/batch.h"

namespace espalier::ops {

/// How the hidden states of a text become one vector.
enum class Pooling {
  kMean,  ///< their mean
  kLast   ///< that of the last token
};

/// The last token of each document of `layout` that is not `padding_id`, or the first where all
/// are, as transformers reads the scores of a text: indices of flat tokens, [documents] int64 on
/// the CPU. `input_ids` is [batch, seq].
ESPALIER_API at::Tensor last_token_rows(const TokenLayout& layout, const at::Tensor& input_ids,
                                        std::optional<std::int64_t> padding_id = std::nullopt);

/// hidden [tokens, embed] -> [documents, embed] float32; with `normalize` of length 1. Empty
/// documents give zeros.
ESPALIER_API at::Tensor pool_documents(const at::Tensor& hidden, const TokenLayout& layout,
                                       Pooling pooling, bool normalize);

/// InfoNCE (van den Oord et al. 2018) with the other passages as negatives: the summed cross
/// entropy of queries [pairs, embed] finding theirs among passages [passages, embed], passage i
/// being that of query i and those past `pairs` further negatives. Scores are products divided by
/// `temperature`; scalar float32.
ESPALIER_API at::Tensor info_nce(const at::Tensor& queries, const at::Tensor& passages,
                                 double temperature);

}  // namespace espalier::ops

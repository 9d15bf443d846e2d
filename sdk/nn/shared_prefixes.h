#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/sdk/model.h"

namespace espalier::nn {

/// Finds tokens that documents begin with alike: the same ids at the same positions, from the start
/// of the document on. `input_ids` and `position_ids` [tokens] int64; what is returned is on the
/// CPU. Undefined where too few tokens are shared to be worth the moving of rows.
ESPALIER_API SharedRows share_prefixes(const TokenLayout& layout, const at::Tensor& input_ids,
                                       const at::Tensor& position_ids);

/// [rows, ...] -> [tokens, ...]. The gradient of a row is the sum over its tokens, in float32 and
/// in the order of the tokens.
ESPALIER_API at::Tensor rows_of_tokens(const at::Tensor& rows, const SharedRows& shared);

/// [tokens, ...] -> [rows, ...], where the tokens of a row are equal.
ESPALIER_API at::Tensor first_tokens(const at::Tensor& tokens, const SharedRows& shared);

}  // namespace espalier::nn

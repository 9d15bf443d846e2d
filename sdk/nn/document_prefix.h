#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "espalier/nn/kv_cache.h"
#include "espalier/sdk/batch.h"

namespace espalier::nn {

/// The tokens of a pass with an adapter's among them.
struct PromptedTokens {
  TokenLayout layout;    ///< one row; documents that begin are longer
  at::Tensor input_ids;  ///< [tokens], kPromptToken at the adapter's
  at::Tensor own_rows;   ///< [own tokens] int64: rows of the text's own tokens
};

/// Puts `count` tokens before each document of which `cache` (or nullptr) holds nothing yet. `ids`
/// is [own tokens] int64 on the CPU.
PromptedTokens with_prompt_tokens(const TokenLayout& layout, const at::Tensor& ids,
                                  std::int64_t count, const KvCache* cache);

}  // namespace espalier::nn

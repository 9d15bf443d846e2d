#include "espalier/nn/document_prefix.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include "espalier/base/error.h"
#include "espalier/nn/embedding.h"

namespace espalier::nn {

PromptedTokens with_prompt_tokens(const TokenLayout& layout, const at::Tensor& ids,
                                  std::int64_t count, const KvCache* cache) {
  if (!ids.defined()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "an adapter puts tokens before a text that is given as vectors",
                        {},
                        "token ids",
                        "inputs_embeds",
                        {}});
  }
  PromptedTokens prompted;
  prompted.layout.document_starts = {0};
  const at::Tensor own = ids.cpu().contiguous();
  prompted.own_rows = at::empty_like(own);
  auto* rows = prompted.own_rows.data_ptr<std::int64_t>();
  std::int64_t shift = 0;
  for (std::int64_t d = 0; d < layout.documents(); ++d) {
    const std::int64_t begin = layout.document_starts[static_cast<std::size_t>(d)];
    const std::int64_t end = layout.document_starts[static_cast<std::size_t>(d) + 1];
    if (cache == nullptr || cache->length(d) == 0) shift += count;
    for (std::int64_t token = begin; token < end; ++token) rows[token] = token + shift;
    prompted.layout.document_starts.push_back(end + shift);
  }
  // Rows of different lengths: as one row.
  prompted.layout.batch = 1;
  prompted.layout.sequence = prompted.layout.tokens();
  prompted.input_ids = at::full({prompted.layout.tokens()}, kPromptToken, own.options());
  prompted.input_ids.index_copy_(0, prompted.own_rows, own);
  return prompted;
}

}  // namespace espalier::nn

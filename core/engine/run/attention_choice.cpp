#include "engine/run/attention_choice.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/nn/attention_core.h"
#include "espalier/nn/kv_cache.h"

namespace espalier {
namespace {

/// Attention with the scores written out, [queries, keys] for each head and document: a bias of
/// zeros makes the document attention do so. For comparisons; it takes the memory that sdpa saves.
class EagerAttention final : public nn::AttentionCore {
 public:
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const nn::AttentionContext& context) override {
    nn::AttentionContext written_out = context;
    if (!context.key_bias.defined()) {
      std::int64_t keys = context.batch.prefix_keys + k.size(0);
      const KvCache* cache = context.batch.cache;
      for (std::int64_t d = 0; cache != nullptr && d < context.batch.layout.documents(); ++d)
        keys = std::max(keys, context.batch.prefix_keys + k.size(0) + cache->length(d));
      written_out.key_bias = at::zeros({q.size(1), keys}, q.options().dtype(at::kFloat));
    }
    return core_.attend(q, k, v, written_out);
  }

 private:
  nn::DocumentAttention core_;
};

std::string flash_reason(const std::string& requested, at::Device device) {
  return requested + " was asked for; this build has flash attention inside sdpa" +
         (device.is_cpu() ? ", on GPUs alone" : ", for 16-bit dtypes");
}

}  // namespace

std::pair<std::string, std::string> choose_attention(Model& model, const std::string& requested,
                                                     at::Device device) {
  const std::size_t seats = model.parts().attention_cores.size();
  if (seats == 0) return {"the model's own", "it has no seat for another"};
  if (requested == "eager") {
    for (const auto& [name, seat] : model.parts().attention_cores)
      *seat = std::make_shared<EagerAttention>();
    return {"eager", "asked for"};
  }
  if (requested == "auto") return {"sdpa", "the fastest of this build"};
  if (requested == "sdpa") return {"sdpa", "asked for"};
  if (requested.starts_with("flash_attention_")) return {"sdpa", flash_reason(requested, device)};
  throw_bad_input("there is no such attention", requested,
                  "auto, eager, sdpa, flash_attention_2, flash_attention_3 or flash_attention_4",
                  "model.attn_implementation");
}

}  // namespace espalier

#include "espalier/nn/attention_core.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>

#include "espalier/nn/kv_cache.h"
#include "espalier/nn/shared_prefixes.h"
#include "espalier/ops/op.h"

namespace espalier::nn {
namespace {

constexpr std::int64_t kMinimumWindowBlock = 128;
constexpr std::int64_t kScoresBlock = 256;  // queries whose scores are written out at a time
constexpr std::int64_t kNoWindow = std::numeric_limits<std::int64_t>::max();

/// [batch * n, heads, dim] -> [batch, heads, n, dim], key heads repeated up to `heads`.
at::Tensor heads_first(const at::Tensor& flat, std::int64_t batch, std::int64_t heads) {
  at::Tensor x = flat.unflatten(0, {batch, -1});  // [batch, n, kv_heads, dim]
  const std::int64_t repeats = heads / x.size(2);
  if (repeats > 1) x = x.unsqueeze(3).expand({-1, -1, -1, repeats, -1}).flatten(2, 3);
  return x.transpose(1, 2);
}

/// Additive-free boolean mask [queries, keys]: query i stands at `first_query + i`, key j at
/// `first_key + j`.
at::Tensor band_mask(std::int64_t first_query, std::int64_t queries, std::int64_t first_key,
                     std::int64_t keys, std::int64_t window, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor query = at::arange(first_query, first_query + queries, options).unsqueeze(1);
  const at::Tensor distance = query - at::arange(first_key, first_key + keys, options).unsqueeze(0);
  at::Tensor allowed = distance.ge(0);
  if (window != kNoWindow) allowed = allowed.logical_and(distance.lt(window));
  return allowed;
}

/// prefix [n, kv_heads, dim] before each document of flat [batch * m, kv_heads, dim].
at::Tensor after_prefix(const at::Tensor& prefix, const at::Tensor& flat, std::int64_t batch) {
  const at::Tensor first = prefix.to(flat.scalar_type()).unsqueeze(0).expand({batch, -1, -1, -1});
  return at::cat({first, flat.unflatten(0, {batch, -1})}, 1).flatten(0, 1);
}

struct Shape {
  std::int64_t batch;    ///< documents of equal length
  std::int64_t queries;  ///< per document
  std::int64_t keys;     ///< per document; more than queries when a cache holds earlier ones
};

bool needs_scores(const AttentionContext& context) {
  return context.soft_cap || context.sinks.defined() || context.key_bias.defined();
}

/// softmax(cap(q k^T scale) + bias) v with the scores written out; k and v start at `first_key`.
at::Tensor attend_by_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& mask, std::int64_t first_key,
                            const AttentionContext& context) {
  at::Tensor scores =
      at::matmul(q, k.transpose(-2, -1)) * context.scale;  // [batch, heads, queries, keys]
  if (context.soft_cap) scores = at::tanh(scores / *context.soft_cap) * *context.soft_cap;
  scores = scores.to(at::kFloat);
  if (context.key_bias.defined())
    scores = scores + context.key_bias.narrow(1, first_key, k.size(-2)).unsqueeze(1);
  scores = scores.masked_fill(at::logical_not(mask), -std::numeric_limits<double>::infinity());
  if (context.sinks.defined()) {
    const at::Tensor sinks = context.sinks.to(at::kFloat).view({1, -1, 1, 1});
    scores = at::cat({scores, sinks.expand({scores.size(0), -1, scores.size(2), 1})}, -1);
  }
  const at::Tensor shares = at::softmax(scores, -1).narrow(-1, 0, k.size(-2));
  return at::matmul(shares.to(v.scalar_type()), v);
}

/// q, k, v are [batch, heads, n, dim] and what the queries see is cut to blocks where a window is
/// in force.
at::Tensor attend_group(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const Shape& shape, const AttentionContext& context) {
  const std::int64_t past = shape.keys - shape.queries;
  const bool windowed = context.sliding_window && *context.sliding_window < shape.keys;
  const bool by_scores = needs_scores(context);
  if (!windowed && !by_scores) {
    if (past == 0)
      return at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true, context.scale);
    if (shape.queries == 1)
      return at::scaled_dot_product_attention(q, k, v, {}, 0.0, false, context.scale);
  }
  const std::int64_t window = windowed ? *context.sliding_window : kNoWindow;
  std::int64_t block = std::max<std::int64_t>(shape.queries, 1);
  if (by_scores) block = kScoresBlock;
  if (windowed) block = std::max(window, kMinimumWindowBlock);
  std::vector<at::Tensor> outputs;
  for (std::int64_t begin = 0; begin < shape.queries; begin += block) {
    const std::int64_t count = std::min(block, shape.queries - begin);
    const std::int64_t first_key =
        windowed ? std::max<std::int64_t>(0, past + begin - window + 1) : 0;
    const std::int64_t keys = past + begin + count - first_key;
    const at::Tensor mask = band_mask(past + begin, count, first_key, keys, window, q.device());
    const at::Tensor queries = q.narrow(2, begin, count);
    const at::Tensor seen_keys = k.narrow(2, first_key, keys);
    const at::Tensor seen_values = v.narrow(2, first_key, keys);
    outputs.push_back(
        by_scores ? attend_by_scores(queries, seen_keys, seen_values, mask, first_key, context)
                  : at::scaled_dot_product_attention(queries, seen_keys, seen_values, mask, 0.0,
                                                     false, context.scale));
  }
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs, 2);
}

/// Neighbouring documents of equal length, which attend in one call.
struct Group {
  std::int64_t batch;
  std::int64_t length;
};

std::vector<Group> groups_of(const std::vector<std::int64_t>& starts, bool alone) {
  std::vector<Group> groups;
  for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
    const std::int64_t length = starts[d + 1] - starts[d];
    if (!alone && !groups.empty() && groups.back().length == length)
      ++groups.back().batch;
    else
      groups.push_back({1, length});
  }
  return groups;
}

}  // namespace

AttentionCore::~AttentionCore() = default;

at::Tensor attend(AttentionCore& core, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v, const AttentionContext& context) {
  const SharedRows& shared = context.batch.shared;
  if (!shared.defined()) return core.attend(q, k, v, context);
  const at::Tensor mixed = core.attend(rows_of_tokens(q, shared), rows_of_tokens(k, shared),
                                       rows_of_tokens(v, shared), context);
  return first_tokens(mixed, shared);
}

at::Tensor DocumentAttention::attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionContext& context) {
  const std::int64_t heads = q.size(1);
  KvCache* cache = context.batch.cache;
  const std::vector<std::int64_t>& starts = context.batch.layout.document_starts;
  const std::vector<Group> groups = groups_of(starts, /*alone=*/cache != nullptr);
  if (groups.empty()) return q;
  if (cache == nullptr && !needs_scores(context) && !context.prefix_keys.defined()) {
    const ops::Tensors inputs = {q, k, v, at::tensor(starts, at::kLong)};
    const ops::OpAttributes attributes{{context.scale}, {context.sliding_window.value_or(0)}};
    // The op's reference writes all scores out; LibTorch's attention below does not.
    const ops::OpImplementation& kernel =
        ops::OpTable::instance().select("document_attention", inputs, attributes);
    if (kernel.priority > 0) return ops::call("document_attention", inputs, attributes)[0];
  }
  std::vector<std::int64_t> rows;
  rows.reserve(groups.size());
  for (const Group& group : groups) rows.push_back(group.batch * group.length);
  // Split at once: the backward pass then joins the parts, where a slice for each would make a
  // gradient of the whole size for each.
  const std::vector<at::Tensor> queries = q.split_with_sizes(rows);
  const std::vector<at::Tensor> all_keys = k.split_with_sizes(rows);
  const std::vector<at::Tensor> all_values = v.split_with_sizes(rows);
  std::vector<at::Tensor> outputs;
  outputs.reserve(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Group& group = groups[i];
    at::Tensor keys = all_keys[i];
    at::Tensor values = all_values[i];
    if (cache != nullptr) {
      std::tie(keys, values) =
          cache->append(context.layer, static_cast<std::int64_t>(i), keys, values);
    }
    if (context.prefix_keys.defined()) {
      keys = after_prefix(context.prefix_keys, keys, group.batch);
      values = after_prefix(context.prefix_values, values, group.batch);
    }
    const Shape shape{group.batch, group.length, keys.size(0) / group.batch};
    const at::Tensor output = attend_group(heads_first(queries[i], group.batch, heads),
                                           heads_first(keys, group.batch, heads),
                                           heads_first(values, group.batch, heads), shape, context);
    outputs.push_back(output.transpose(1, 2).flatten(0, 1));  // [rows, heads, dim]
  }
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

}  // namespace espalier::nn

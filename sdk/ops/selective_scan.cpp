#include "espalier/ops/selective_scan.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/ops/parallel_for.h"
#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

constexpr std::int64_t kChunk = 64;  // tokens between two states that are kept
// Heads are cut into this many parts, whatever the number of threads, so that sums over heads have
// one order.
constexpr std::int64_t kParts = 16;

struct Sizes {
  std::int64_t heads, channels, state, groups, decays;
  std::int64_t cells() const { return channels * state; }
  std::int64_t group(std::int64_t head) const { return head * groups / heads; }
};

/// A run of tokens inside one document.
struct Chunk {
  std::int64_t document, begin, tokens;
  bool first, last;  ///< of its document
};

/// One head's view of a chunk: first element at the chunk's first token, and the step to the next.
struct HeadView {
  const float *x, *dt, *decay, *a, *b, *c;
};

Sizes sizes_of(const Tensors& in) {
  return {in[0].size(1), in[0].size(2), in[3].size(2), in[3].size(1), in[2].size(1)};
}

std::vector<Chunk> chunks_of(const at::Tensor& offsets) {
  const std::int64_t* edge = offsets.const_data_ptr<std::int64_t>();
  std::vector<Chunk> chunks;
  for (std::int64_t d = 0; d + 1 < offsets.size(0); ++d) {
    for (std::int64_t begin = edge[d]; begin < edge[d + 1]; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, edge[d + 1]);
      chunks.push_back({d, begin, end - begin, begin == edge[d], end == edge[d + 1]});
    }
  }
  return chunks;
}

/// exp(dt a) of a chunk, [tokens, heads, decays].
at::Tensor decay_of(const Tensors& in, const Chunk& chunk) {
  return at::exp(in[1].narrow(0, chunk.begin, chunk.tokens).unsqueeze(-1) * in[2]);
}

HeadView view_of(const Tensors& in, const at::Tensor& decay, const Chunk& chunk, const Sizes& s,
                 std::int64_t head) {
  const std::int64_t shared = chunk.begin * s.groups * s.state + s.group(head) * s.state;
  return {in[0].const_data_ptr<float>() + (chunk.begin * s.heads + head) * s.channels,
          in[1].const_data_ptr<float>() + chunk.begin * s.heads + head,
          decay.const_data_ptr<float>() + head * s.decays,
          in[2].const_data_ptr<float>() + head * s.decays,
          in[3].const_data_ptr<float>() + shared,
          in[4].const_data_ptr<float>() + shared};
}

/// state <- decay * state + dt x b at token t of the view.
void advance(const HeadView& v, const Sizes& s, std::int64_t t, const float* from, float* to) {
  const float* x = v.x + t * s.heads * s.channels;
  const float* b = v.b + t * s.groups * s.state;
  const float* decay = v.decay + t * s.heads * s.decays;
  const float dt = v.dt[t * s.heads];
  for (std::int64_t p = 0; p < s.channels; ++p) {
    const float input = dt * x[p];
    const float* old = from + p * s.state;
    float* now = to + p * s.state;
    if (s.decays == 1) {
      for (std::int64_t n = 0; n < s.state; ++n) now[n] = decay[0] * old[n] + input * b[n];
    } else {
      for (std::int64_t n = 0; n < s.state; ++n) now[n] = decay[n] * old[n] + input * b[n];
    }
  }
}

/// y_t = s_t c_t for one head over a chunk; `state` goes from the chunk's start to its end.
void scan_head(const HeadView& v, const Sizes& s, const Chunk& chunk, float* state, float* y) {
  for (std::int64_t t = 0; t < chunk.tokens; ++t) {
    advance(v, s, t, state, state);
    const float* c = v.c + t * s.groups * s.state;
    for (std::int64_t p = 0; p < s.channels; ++p) {
      float sum = 0;
      for (std::int64_t n = 0; n < s.state; ++n) sum += state[p * s.state + n] * c[n];
      y[t * s.heads * s.channels + p] = sum;
    }
  }
}

/// Calls `work(part, head)` for every head, parts in parallel.
template <class Work>
void for_each_head(std::int64_t heads, const Work& work) {
  parallel_for(0, kParts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      for (std::int64_t h = part * heads / kParts; h < (part + 1) * heads / kParts; ++h)
        work(part, h);
    }
  });
}

// inputs: x, dt, a, b, c, initial, offsets; outputs: y, states; saved: x, dt, a, b, c, offsets,
// starts [chunks, heads, channels, state]
Tensors forward(const Tensors& in, const OpAttributes&, Saved& saved) {
  const Sizes s = sizes_of(in);
  const std::vector<Chunk> chunks = chunks_of(in[6]);
  const auto count = static_cast<std::int64_t>(chunks.size());
  at::Tensor y = at::empty_like(in[0]);
  at::Tensor state = at::zeros({s.heads, s.channels, s.state}, in[0].options());
  at::Tensor starts = at::empty({count, s.heads, s.channels, s.state}, in[0].options());
  at::Tensor last_states =
      in[5].defined()
          ? in[5].clone()
          : at::zeros({in[6].size(0) - 1, s.heads, s.channels, s.state}, in[0].options());
  for (std::int64_t i = 0; i < count; ++i) {
    const Chunk& chunk = chunks[static_cast<std::size_t>(i)];
    if (chunk.first) state.copy_(last_states[chunk.document]);
    starts[i].copy_(state);
    const at::Tensor decay = decay_of(in, chunk);
    for_each_head(s.heads, [&](std::int64_t, std::int64_t head) {
      scan_head(view_of(in, decay, chunk, s, head), s, chunk,
                state.data_ptr<float>() + head * s.cells(),
                y.data_ptr<float>() + (chunk.begin * s.heads + head) * s.channels);
    });
    if (chunk.last) last_states[chunk.document].copy_(state);
  }
  saved.tensors = {in[0], in[1], in[2], in[3], in[4], in[6], starts};
  return {y, last_states};
}

/// Where one head's gradients of a chunk go, laid out like the inputs.
struct HeadGradients {
  float *x, *dt, *a, *b, *c;
};

/// With g_t = dL/ds_t (y's part and what later tokens hand back):
///   dc = sum_p gy s_t,  db = dt sum_p x g_t,  dx = dt sum_n g_t b,
///   d(dt) = sum g_t x b + sum g_t s_(t-1) decay a,  da = dt sum_p g_t s_(t-1) decay
/// and g_(t-1) starts as decay g_t. `states` are s before the chunk and after each of its tokens.
void token_backward(const HeadView& v, const Sizes& s, std::int64_t t, const float* gy,
                    const float* states, float* g, const HeadGradients& out) {
  const float* x = v.x + t * s.heads * s.channels;
  const float* b = v.b + t * s.groups * s.state;
  const float* c = v.c + t * s.groups * s.state;
  const float* decay = v.decay + t * s.heads * s.decays;
  const float* before = states + t * s.cells();
  const float* after = before + s.cells();
  const float dt = v.dt[t * s.heads];
  float* db = out.b + t * s.groups * s.state;
  float* dc = out.c + t * s.groups * s.state;
  float step = 0;
  for (std::int64_t p = 0; p < s.channels; ++p) {
    float along_b = 0;
    for (std::int64_t n = 0; n < s.state; ++n) {
      const std::int64_t cell = p * s.state + n;
      const std::int64_t k = s.decays == 1 ? 0 : n;
      g[cell] += gy[p] * c[n];
      dc[n] += gy[p] * after[cell];
      db[n] += dt * x[p] * g[cell];
      along_b += g[cell] * b[n];
      g[cell] *= decay[k];
      const float kept = g[cell] * before[cell];
      out.a[k] += dt * kept;
      step += kept * v.a[k];
    }
    out.x[t * s.heads * s.channels + p] = dt * along_b;
    step += x[p] * along_b;
  }
  out.dt[t * s.heads] = step;
}

/// Gradients of one head over a chunk: its states are computed again, then walked back.
void head_backward(const HeadView& v, const Sizes& s, const Chunk& chunk, const float* start,
                   const float* gy, float* g, const HeadGradients& out) {
  std::vector<float> states(static_cast<std::size_t>((chunk.tokens + 1) * s.cells()));
  std::copy(start, start + s.cells(), states.begin());
  for (std::int64_t t = 0; t < chunk.tokens; ++t)
    advance(v, s, t, &states[static_cast<std::size_t>(t * s.cells())],
            &states[static_cast<std::size_t>((t + 1) * s.cells())]);
  for (std::int64_t t = chunk.tokens - 1; t >= 0; --t)
    token_backward(v, s, t, gy + t * s.heads * s.channels, states.data(), g, out);
}

Tensors backward(const Saved& saved, const OpAttributes&, const Tensors& grad_outputs,
                 const std::vector<bool>&) {
  const Tensors& in = saved.tensors;  // x, dt, a, b, c, offsets, starts
  const Sizes s = sizes_of(in);
  const std::vector<Chunk> chunks = chunks_of(in[5]);
  const at::Tensor gy = grad_outputs[0].contiguous();
  const at::Tensor last_states = grad_outputs[1].contiguous();
  Tensors grads = {at::empty_like(in[0]),
                   at::empty_like(in[1]),
                   at::zeros_like(in[2]),
                   at::empty_like(in[3]),
                   at::empty_like(in[4]),
                   {},
                   {}};
  at::Tensor g = at::zeros({s.heads, s.channels, s.state}, in[0].options());
  for (auto i = static_cast<std::int64_t>(chunks.size()) - 1; i >= 0; --i) {
    const Chunk& chunk = chunks[static_cast<std::size_t>(i)];
    if (chunk.last) g.copy_(last_states[chunk.document]);
    const at::Tensor decay = decay_of(in, chunk);
    const at::Tensor shared =  // of b and c, one for each part of the heads
        at::zeros({2, kParts, chunk.tokens, s.groups, s.state}, in[0].options());
    const std::int64_t stride = chunk.tokens * s.groups * s.state;
    for_each_head(s.heads, [&](std::int64_t part, std::int64_t head) {
      float* own = shared.data_ptr<float>() + part * stride + s.group(head) * s.state;
      const std::int64_t row = chunk.begin * s.heads + head;
      const HeadGradients out = {
          grads[0].data_ptr<float>() + row * s.channels, grads[1].data_ptr<float>() + row,
          grads[2].data_ptr<float>() + head * s.decays, own, own + kParts * stride};
      head_backward(view_of(in, decay, chunk, s, head), s, chunk,
                    in[6].const_data_ptr<float>() + (i * s.heads + head) * s.cells(),
                    gy.const_data_ptr<float>() + row * s.channels,
                    g.data_ptr<float>() + head * s.cells(), out);
    });
    grads[3].narrow(0, chunk.begin, chunk.tokens).copy_(shared[0].sum(0));
    grads[4].narrow(0, chunk.begin, chunk.tokens).copy_(shared[1].sum(0));
  }
  return grads;
}

at::Tensor as_float(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  if (!tensor.is_cpu()) {
    throw Error(Problem{ErrorCode::kUnsupported, "the selective scan runs on the CPU alone",
                        tensor.device().str(), "cpu", "selective_scan",
                        "use a kernel pack for this device"});
  }
  return tensor.to(at::kFloat).contiguous();
}

}  // namespace

OpImplementation selective_scan_reference() {
  return {"selective_scan", "reference", 0, {}, forward, backward};
}

ScanOutputs selective_scan(const ScanInputs& inputs,
                           const std::vector<std::int64_t>& document_starts) {
  const Tensors outputs = call("selective_scan",
                               {as_float(inputs.x), as_float(inputs.dt), as_float(inputs.a),
                                as_float(inputs.b), as_float(inputs.c), as_float(inputs.initial),
                                at::tensor(document_starts, at::TensorOptions().dtype(at::kLong))},
                               {});
  return {outputs[0].to(inputs.x.scalar_type()), outputs[1]};
}

}  // namespace espalier::ops

// The CPU kernel pack: the memory-bound ops of a decoder in one pass over their data each, on the
// threads of LibTorch. Compiled per instruction set; the best that the CPU has is taken when the
// pack is made. Matrix products and attention stay with LibTorch.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "binding.h"
#include "espalier/base/error.h"
#include "espalier/ops/document_attention.h"
#include "espalier/ops/gated_activation.h"
#include "espalier/ops/op.h"
#include "espalier/ops/parallel_for.h"
#include "espalier/ops/reference.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"
#include "kernels.h"

namespace espalier {
namespace {

using ops::OpAttributes;
using ops::OpImplementation;
using ops::Saved;
using ops::Tensors;

using cpu::as_rows;
using cpu::empty_floats;
using cpu::is_computed;
using cpu::kPriority;
using cpu::over_rows;
using cpu::row_stride;
using cpu::type_of;

static_assert(kIgnoredLabel == -100, "kNoLabel of rows.h");

const cpu::Kernels* best_kernels() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return &cpu::avx512::kKernels;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &cpu::avx2::kKernels;
  return nullptr;
}

// --- rms_norm: inputs x, w; numbers eps, offset

cpu::RmsNormArguments rms_norm_arguments(const at::Tensor& x, const at::Tensor& w,
                                         const OpAttributes& attributes) {
  cpu::RmsNormArguments arguments{};
  arguments.type = type_of(x);
  arguments.weight_type = type_of(w);
  arguments.columns = x.size(1);
  arguments.row_stride = row_stride(x);
  arguments.epsilon = static_cast<float>(attributes.numbers[0]);
  arguments.offset = static_cast<float>(attributes.numbers[1]);
  arguments.x = x.const_data_ptr();
  arguments.weight = w.const_data_ptr();
  return arguments;
}

/// Sums over rows: each thread its own, then all in order, so that equal runs give equal bits.
void rms_norm_backward(const cpu::Kernels& kernels, const cpu::RmsNormArguments& arguments,
                       std::int64_t rows, at::Tensor& grad_weight) {
  const std::int64_t threads =
      std::min<std::int64_t>(at::get_num_threads(), std::max<std::int64_t>(rows, 1));
  at::Tensor partial =
      at::zeros({threads, arguments.columns}, at::TensorOptions().dtype(at::kFloat));
  ops::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      cpu::RmsNormArguments mine = arguments;
      mine.grad_weight = partial.data_ptr<float>() + i * arguments.columns;
      kernels.rms_norm_backward(mine, rows * i / threads, rows * (i + 1) / threads);
    }
  });
  grad_weight = partial.sum(0);
}

OpImplementation rms_norm(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    const at::Tensor& w = inputs[1];
    return is_computed(inputs[0]) && is_computed(w) && w.is_contiguous() && inputs[0].dim() > 0 &&
           inputs[0].size(-1) > 0;
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes,
                                  Saved& saved) {
    const at::Tensor x = as_rows(inputs[0]);
    at::Tensor y = at::empty(inputs[0].sizes(), x.options());
    at::Tensor inverse = empty_floats(x.size(0));
    cpu::RmsNormArguments arguments = rms_norm_arguments(x, inputs[1], attributes);
    arguments.y = y.mutable_data_ptr();
    arguments.inverse = inverse.data_ptr<float>();
    over_rows(kernels.rms_norm, arguments, x.size(0), x.size(1));
    saved.tensors = {inputs[0], inputs[1], inverse};
    return Tensors{y};
  };
  const auto backward = [&kernels](const Saved& saved, const OpAttributes& attributes,
                                   const Tensors& grad_outputs,
                                   const std::vector<bool>& needs_grad) {
    const at::Tensor x = as_rows(saved.tensors[0]);
    const at::Tensor& w = saved.tensors[1];
    const at::Tensor grad = grad_outputs[0].contiguous();
    at::Tensor grad_x = needs_grad[0] ? at::empty(grad.sizes(), x.options()) : at::Tensor();
    at::Tensor grad_weight;
    cpu::RmsNormArguments arguments = rms_norm_arguments(x, w, attributes);
    arguments.inverse = saved.tensors[2].data_ptr<float>();
    arguments.grad = grad.const_data_ptr();
    if (grad_x.defined()) arguments.grad_x = grad_x.mutable_data_ptr();
    if (needs_grad[1])
      rms_norm_backward(kernels, arguments, x.size(0), grad_weight);
    else
      over_rows(kernels.rms_norm_backward, arguments, x.size(0), x.size(1));
    return Tensors{grad_x, needs_grad[1] ? grad_weight.to(w.scalar_type()) : at::Tensor()};
  };
  return {"rms_norm", kernels.instructions, kPriority, supports, forward, backward};
}

// --- rotary: inputs x, cos, sin; integers interleaved

at::Tensor rotated(const cpu::Kernels& kernels, const at::Tensor& input, const at::Tensor& cos,
                   const at::Tensor& sin, const OpAttributes& attributes, float direction) {
  const at::Tensor x = input.stride(-1) == 1 ? input : input.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const cpu::RotaryArguments arguments{type_of(x),
                                       x.size(1),
                                       x.size(2),
                                       cos.size(1),
                                       x.stride(0),
                                       x.stride(1),
                                       attributes.integers[0] != 0,
                                       direction,
                                       x.const_data_ptr(),
                                       cos.const_data_ptr<float>(),
                                       sin.const_data_ptr<float>(),
                                       y.mutable_data_ptr()};
  over_rows(kernels.rotary, arguments, x.size(0), x.size(1) * x.size(2));
  return y;
}

OpImplementation rotary(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    const auto angles = [](const at::Tensor& tensor) {
      return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
    };
    return is_computed(inputs[0]) && inputs[0].dim() == 3 && angles(inputs[1]) && angles(inputs[2]);
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes,
                                  Saved& saved) {
    saved.tensors = {inputs[1], inputs[2]};
    return Tensors{rotated(kernels, inputs[0], inputs[1], inputs[2], attributes, 1.0F)};
  };
  const auto backward = [&kernels](const Saved& saved, const OpAttributes& attributes,
                                   const Tensors& grad_outputs, const std::vector<bool>&) {
    return Tensors{
        rotated(kernels, grad_outputs[0], saved.tensors[0], saved.tensors[1], attributes, -1.0F),
        {},
        {}};
  };
  return {"rotary", kernels.instructions, kPriority, supports, forward, backward};
}

// --- gated_activation: inputs gate, up; integers activation

cpu::GatedArguments gated_arguments(const at::Tensor& gate, const at::Tensor& up,
                                    const OpAttributes& attributes) {
  cpu::GatedArguments arguments{};
  arguments.type = type_of(gate);
  arguments.activation = static_cast<int>(attributes.integers[0]);
  arguments.columns = gate.size(1);
  arguments.gate_stride = row_stride(gate);
  arguments.up_stride = row_stride(up);
  arguments.gate = gate.const_data_ptr();
  arguments.up = up.const_data_ptr();
  return arguments;
}

OpImplementation gated_activation(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes& attributes) {
    const auto activation = static_cast<ops::Activation>(attributes.integers[0]);
    return is_computed(inputs[0]) && inputs[1].is_cpu() &&
           inputs[1].scalar_type() == inputs[0].scalar_type() &&
           inputs[0].sizes() == inputs[1].sizes() && inputs[0].dim() > 0 &&
           inputs[0].size(-1) > 0 && activation != ops::Activation::kGelu &&
           activation <= ops::Activation::kQuickGelu;
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes,
                                  Saved& saved) {
    const at::Tensor gate = as_rows(inputs[0]);
    const at::Tensor up = as_rows(inputs[1]);
    at::Tensor y = at::empty(inputs[0].sizes(), gate.options());
    cpu::GatedArguments arguments = gated_arguments(gate, up, attributes);
    arguments.y = y.mutable_data_ptr();
    over_rows(kernels.gated, arguments, gate.size(0), gate.size(1));
    saved.tensors = {inputs[0], inputs[1]};
    return Tensors{y};
  };
  const auto backward = [&kernels](const Saved& saved, const OpAttributes& attributes,
                                   const Tensors& grad_outputs, const std::vector<bool>&) {
    const at::Tensor gate = as_rows(saved.tensors[0]);
    const at::Tensor up = as_rows(saved.tensors[1]);
    const at::Tensor grad = grad_outputs[0].contiguous();
    at::Tensor grad_gate = at::empty(grad.sizes(), gate.options());
    at::Tensor grad_up = at::empty(grad.sizes(), gate.options());
    cpu::GatedArguments arguments = gated_arguments(gate, up, attributes);
    arguments.grad = grad.const_data_ptr();
    arguments.grad_gate = grad_gate.mutable_data_ptr();
    arguments.grad_up = grad_up.mutable_data_ptr();
    over_rows(kernels.gated_backward, arguments, gate.size(0), gate.size(1));
    return Tensors{grad_gate, grad_up};
  };
  return {"gated_activation", kernels.instructions, kPriority, supports, forward, backward};
}

// --- cross_entropy: inputs logits, labels; numbers smoothing, z weight, soft cap; integers whether
// the gradient may be written over the logits

cpu::CrossEntropyArguments cross_entropy_arguments(const at::Tensor& logits,
                                                   const at::Tensor& labels, at::Tensor& lse,
                                                   const OpAttributes& attributes) {
  cpu::CrossEntropyArguments arguments{};
  arguments.type = type_of(logits);
  arguments.vocab = logits.size(1);
  arguments.row_stride = row_stride(logits);
  arguments.smoothing = static_cast<float>(attributes.numbers[0]);
  arguments.z_loss = static_cast<float>(attributes.numbers[1]);
  arguments.logits = logits.const_data_ptr();
  arguments.labels = labels.const_data_ptr<std::int64_t>();
  arguments.log_sum_exp = lse.data_ptr<float>();
  return arguments;
}

OpImplementation cross_entropy(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes& attributes) {
    return is_computed(inputs[0]) && inputs[0].dim() == 2 && inputs[0].size(1) > 0 &&
           inputs[1].is_cpu() && attributes.numbers[2] == 0.0;
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes,
                                  Saved& saved) {
    const at::Tensor logits = as_rows(inputs[0]);
    const at::Tensor labels = inputs[1].contiguous();
    at::Tensor lse = empty_floats(logits.size(0));
    at::Tensor loss = empty_floats(logits.size(0));
    cpu::CrossEntropyArguments arguments = cross_entropy_arguments(logits, labels, lse, attributes);
    arguments.loss = loss.data_ptr<float>();
    over_rows(kernels.cross_entropy, arguments, logits.size(0), logits.size(1));
    saved.tensors = {inputs[0], labels, lse};
    return Tensors{loss.sum(at::kDouble).to(at::kFloat)};
  };
  const auto backward = [&kernels](const Saved& saved, const OpAttributes& attributes,
                                   const Tensors& grad_outputs, const std::vector<bool>&) {
    const at::Tensor logits = as_rows(saved.tensors[0]);
    at::Tensor lse = saved.tensors[2];
    const bool over_logits = attributes.integers[0] != 0 && logits.is_contiguous();
    const at::Tensor grad =
        over_logits ? logits.detach() : at::empty(logits.sizes(), logits.options());
    if (over_logits) logits.unsafeGetTensorImpl()->bump_version();
    cpu::CrossEntropyArguments arguments =
        cross_entropy_arguments(logits, saved.tensors[1], lse, attributes);
    arguments.scale = grad_outputs[0].item<float>();
    arguments.grad = grad.mutable_data_ptr();
    over_rows(kernels.cross_entropy_backward, arguments, logits.size(0), logits.size(1));
    return Tensors{grad, {}};
  };
  return {"cross_entropy", kernels.instructions, kPriority, supports, forward, backward};
}

// --- softmax_tile: inputs logits, maximum, sum; integers whether the values may be written over
// the logits

OpImplementation softmax_tile(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    return is_computed(inputs[0]) && inputs[0].dim() == 2 && inputs[0].size(1) > 0;
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes, Saved&) {
    const at::Tensor logits = as_rows(inputs[0]);
    const at::Tensor maximum = inputs[1].contiguous();
    const at::Tensor sum = inputs[2].contiguous();
    const std::int64_t rows = logits.size(0);
    const bool over_logits = attributes.integers[0] != 0 && logits.is_contiguous();
    const at::Tensor values = over_logits ? logits : at::empty(logits.sizes(), logits.options());
    const at::Tensor new_maximum = empty_floats(rows);
    const at::Tensor new_sum = empty_floats(rows);
    const at::Tensor factor = empty_floats(rows);
    const cpu::SoftmaxTileArguments arguments{type_of(logits),
                                              logits.size(1),
                                              row_stride(logits),
                                              logits.const_data_ptr(),
                                              values.mutable_data_ptr(),
                                              maximum.const_data_ptr<float>(),
                                              sum.const_data_ptr<float>(),
                                              new_maximum.mutable_data_ptr<float>(),
                                              new_sum.mutable_data_ptr<float>(),
                                              factor.mutable_data_ptr<float>()};
    over_rows(kernels.softmax_tile, arguments, rows, logits.size(1));
    return Tensors{values, new_maximum, new_sum, factor};
  };
  return {"softmax_tile", kernels.instructions,
          kPriority,      supports,
          forward,        ops::softmax_tile_reference().backward};
}

// --- document_attention: inputs q, k, v, starts; numbers scale; integers window

constexpr std::int64_t kLongestDocument = 2048;  // LibTorch's blocks are better for longer ones

cpu::AttentionArguments attention_arguments(const Tensors& inputs, const at::Tensor& output,
                                            const at::Tensor& lse, const OpAttributes& attributes) {
  const at::Tensor& q = inputs[0];
  const at::Tensor& k = inputs[1];
  const at::Tensor& v = inputs[2];
  cpu::AttentionArguments arguments{};
  arguments.type = type_of(q);
  arguments.heads = q.size(1);
  arguments.kv_heads = k.size(1);
  arguments.width = q.size(2);
  arguments.q_token = q.stride(0);
  arguments.q_head = q.stride(1);
  arguments.k_token = k.stride(0);
  arguments.k_head = k.stride(1);
  arguments.v_token = v.stride(0);
  arguments.v_head = v.stride(1);
  arguments.starts = inputs[3].const_data_ptr<std::int64_t>();
  arguments.window = attributes.integers[0];
  arguments.scale = static_cast<float>(attributes.numbers[0]);
  arguments.q = q.const_data_ptr();
  arguments.k = k.const_data_ptr();
  arguments.v = v.const_data_ptr();
  arguments.output = output.mutable_data_ptr();
  arguments.log_sum_exp = lse.mutable_data_ptr<float>();
  return arguments;
}

/// The first task of each thread, so that all have about the same to do; one more at the end.
std::vector<std::int64_t> shares_of_threads(const at::Tensor& starts, std::int64_t kv_heads) {
  constexpr std::int64_t kPerToken = 64;  // what a token costs besides its scores, in scores
  const std::int64_t* start = starts.const_data_ptr<std::int64_t>();
  const std::int64_t tasks = (starts.numel() - 1) * kv_heads;
  std::vector<std::int64_t> costs(static_cast<std::size_t>(tasks) + 1, 0);
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t length = start[task / kv_heads + 1] - start[task / kv_heads];
    costs[static_cast<std::size_t>(task) + 1] =
        costs[static_cast<std::size_t>(task)] + length * (length + kPerToken);
  }
  const std::int64_t threads =
      std::clamp<std::int64_t>(at::get_num_threads(), 1, std::max<std::int64_t>(tasks, 1));
  std::vector<std::int64_t> first;
  for (std::int64_t i = 0; i <= threads; ++i) {
    const auto place = std::lower_bound(costs.begin(), costs.end(), costs.back() * i / threads);
    first.push_back(place - costs.begin());
  }
  return first;
}

void over_tasks(const cpu::Kernels& kernels,
                void (*kernel)(const cpu::AttentionArguments&, std::int64_t, std::int64_t),
                const cpu::AttentionArguments& arguments, const at::Tensor& starts) {
  const std::vector<std::int64_t> first = shares_of_threads(starts, arguments.kv_heads);
  const std::int64_t size =
      kernels.attention_scratch(ops::longest_document(starts), arguments.width);
  ops::parallel_for(
      0, static_cast<std::int64_t>(first.size()) - 1, 1, [&](std::int64_t begin, std::int64_t end) {
        at::Tensor scratch = empty_floats(size);
        cpu::AttentionArguments mine = arguments;
        mine.scratch = scratch.data_ptr<float>();
        kernel(mine, first[static_cast<std::size_t>(begin)], first[static_cast<std::size_t>(end)]);
      });
}

OpImplementation document_attention(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    const auto taken = [&](const at::Tensor& x) {
      return is_computed(x) && x.scalar_type() == inputs[0].scalar_type() && x.dim() == 3 &&
             x.stride(2) == 1 && x.size(2) == inputs[0].size(2);
    };
    return taken(inputs[0]) && taken(inputs[1]) && taken(inputs[2]) && inputs[1].size(1) > 0 &&
           inputs[0].size(1) % inputs[1].size(1) == 0 && inputs[3].is_contiguous() &&
           ops::longest_document(inputs[3]) <= kLongestDocument;
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes,
                                  Saved& saved) {
    const at::Tensor& q = inputs[0];
    at::Tensor output = at::empty(q.sizes(), q.options());
    at::Tensor lse = empty_floats(q.size(0) * q.size(1));
    over_tasks(kernels, kernels.attention, attention_arguments(inputs, output, lse, attributes),
               inputs[3]);
    saved.tensors = {q, inputs[1], inputs[2], inputs[3], output, lse};
    return Tensors{output};
  };
  const auto backward = [&kernels](const Saved& saved, const OpAttributes& attributes,
                                   const Tensors& grad_outputs, const std::vector<bool>&) {
    const at::Tensor grad = grad_outputs[0].contiguous();
    Tensors grads;
    for (std::size_t i = 0; i < 3; ++i)
      grads.push_back(at::empty(saved.tensors[i].sizes(), grad.options()));
    grads.emplace_back();
    cpu::AttentionArguments arguments =
        attention_arguments(saved.tensors, saved.tensors[4], saved.tensors[5], attributes);
    arguments.grad = grad.const_data_ptr();
    arguments.grad_q = grads[0].mutable_data_ptr();
    arguments.grad_k = grads[1].mutable_data_ptr();
    arguments.grad_v = grads[2].mutable_data_ptr();
    over_tasks(kernels, kernels.attention_backward, arguments, saved.tensors[3]);
    return grads;
  };
  return {"document_attention", kernels.instructions, kPriority, supports, forward, backward};
}

// --- decode_linear: inputs x, weight, bias, scale

std::optional<cpu::WeightType> weight_type_of(const at::Tensor& weight) {
  switch (weight.scalar_type()) {
    case at::kFloat: return cpu::WeightType::kFloat;
    case at::kBFloat16: return cpu::WeightType::kBf16;
    case at::kChar: return cpu::WeightType::kInt8;
    default: return std::nullopt;
  }
}

OpImplementation decode_linear(const cpu::Kernels& kernels) {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    const at::Tensor& weight = inputs[1];
    return is_computed(inputs[0]) && inputs[0].dim() == 2 && weight.is_cpu() &&
           weight.is_contiguous() && weight_type_of(weight).has_value();
  };
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes&, Saved& saved) {
    const auto as_floats = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.to(at::kFloat).contiguous() : tensor;
    };
    const auto floats = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
    };
    const at::Tensor x = as_floats(inputs[0]);
    const at::Tensor& weight = inputs[1];
    const at::Tensor bias = as_floats(inputs[2]);
    const at::Tensor scale = as_floats(inputs[3]);
    at::Tensor y = at::empty({x.size(0), weight.size(0)}, inputs[0].options());
    const cpu::DecodeArguments arguments{
        type_of(y), *weight_type_of(weight), x.size(0),     x.size(1),    weight.size(0),
        floats(x),  weight.const_data_ptr(), floats(scale), floats(bias), y.mutable_data_ptr()};
    over_rows(kernels.decode_linear, arguments, weight.size(0), weight.size(1));
    saved.tensors = {inputs[0], weight, inputs[3]};
    return Tensors{y};
  };
  // Nothing is trained this way: the reference's will do.
  return {"decode_linear", kernels.instructions,
          kPriority,       supports,
          forward,         ops::decode_linear_reference().backward};
}

class CpuKernels final : public KernelPack {
 public:
  std::string unavailable() const override {
    return best_kernels() != nullptr ? "" : "the CPU has neither AVX2 with FMA nor AVX-512";
  }
  std::vector<OpImplementation> implementations() const override {
    const cpu::Kernels* kernels = best_kernels();
    if (kernels == nullptr) return {};
    return {rms_norm(*kernels),           rotary(*kernels),
            gated_activation(*kernels),   cross_entropy(*kernels),
            document_attention(*kernels), softmax_tile(*kernels),
            decode_linear(*kernels),      cpu::low_rank_update(*kernels)};
  }
};

void register_components(Registrar& registrar) {
  registrar
      .add<KernelPack, CpuKernels>(
          "cpu_kernels",
          "fused kernels for AVX2 and AVX-512: norms, rotary positions, "
          "gated activations, cross entropy, tiles of a softmax, attention in documents, linears "
          "of few rows, updates of low rank")
      .serves("ops", {"rms_norm", "rotary", "gated_activation", "cross_entropy", "softmax_tile",
                      "document_attention", "decode_linear", "low_rank_update"})
      .serves("devices", {"cpu"});
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.cpu_kernels", "0.1.0", espalier::register_components)

// The CUDA kernel pack: the memory-bound ops of a decoder in one pass over their data each. Matrix
// products and attention stay with cuBLASLt and LibTorch. Loads on machines without a GPU, where it
// says that it can't run. Kernels run on LibTorch's current stream and wait for nothing.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>

#include <optional>

#include "binding.h"
#include "espalier/base/error.h"
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

using cuda::kName;
using cuda::kPriority;

constexpr std::int64_t kRmsNormBlocks = 1024;  // a few for each multiprocessor of the largest chips

static_assert(kIgnoredLabel == -100, "kNoLabel of cross_entropy.cuh");

void require_success(int status, const char* op) {
  if (status == cudaSuccess) return;
  throw Error(Problem{ErrorCode::kInternal,
                      std::string("the CUDA kernel of ") + op + " could not be started",
                      cudaGetErrorString(static_cast<cudaError_t>(status)),
                      {},
                      op,
                      "take the reference with [kernels] left out"});
}

bool is_computed(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  return tensor.is_cuda() && (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

cuda::Type type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kBFloat16: return cuda::Type::kBf16;
    case at::kHalf: return cuda::Type::kFp16;
    default: return cuda::Type::kFloat;
  }
}

cuda::Stream stream_of(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

at::Tensor empty_floats(at::IntArrayRef shape, const at::Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kFloat));
}

// --- rms_norm: inputs x, w; numbers eps, offset

cuda::RmsNormShape rms_norm_shape(const at::Tensor& x, const at::Tensor& w,
                                  const OpAttributes& attributes) {
  const std::int64_t columns = x.size(-1);
  return {type_of(x),
          type_of(w),
          x.numel() / columns,
          columns,
          static_cast<float>(attributes.numbers[0]),
          static_cast<float>(attributes.numbers[1])};
}

OpImplementation rms_norm() {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    const at::Tensor& x = inputs[0];
    const at::Tensor& w = inputs[1];
    return is_computed(x) && is_computed(w) && x.numel() > 0 && w.is_contiguous() &&
           (w.scalar_type() == x.scalar_type() || w.scalar_type() == at::kFloat) &&
           x.size(-1) <= cuda::kRmsNormMaximumColumns;
  };
  const auto forward = [](const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
    const c10::cuda::CUDAGuard guard(inputs[0].device());
    const at::Tensor x = inputs[0].contiguous();
    const cuda::RmsNormShape shape = rms_norm_shape(x, inputs[1], attributes);
    at::Tensor y = at::empty_like(x);
    at::Tensor inverse = empty_floats({shape.rows}, x);
    require_success(
        cuda::rms_norm_forward(shape, x.const_data_ptr(), inputs[1].const_data_ptr(),
                               y.mutable_data_ptr(), inverse.data_ptr<float>(), stream_of(x)),
        "rms_norm");
    saved.tensors = {x, inputs[1], inverse};
    return Tensors{y};
  };
  const auto backward = [](const Saved& saved, const OpAttributes& attributes,
                           const Tensors& grad_outputs, const std::vector<bool>& needs_grad) {
    const at::Tensor& x = saved.tensors[0];
    const at::Tensor& w = saved.tensors[1];
    const c10::cuda::CUDAGuard guard(x.device());
    const cuda::RmsNormShape shape = rms_norm_shape(x, w, attributes);
    const at::Tensor dy = grad_outputs[0].contiguous();
    at::Tensor dx = needs_grad[0] ? at::empty_like(x) : at::Tensor();
    const std::int64_t blocks = std::min(shape.rows, kRmsNormBlocks);
    at::Tensor partial = needs_grad[1] ? empty_floats({blocks, shape.columns}, x) : at::Tensor();
    require_success(
        cuda::rms_norm_backward(
            shape, x.const_data_ptr(), w.const_data_ptr(), saved.tensors[2].const_data_ptr<float>(),
            dy.const_data_ptr(), dx.defined() ? dx.mutable_data_ptr() : nullptr,
            partial.defined() ? partial.data_ptr<float>() : nullptr, blocks, stream_of(x)),
        "rms_norm");
    return Tensors{dx, partial.defined() ? partial.sum(0).to(w.scalar_type()) : at::Tensor()};
  };
  return {"rms_norm", kName, kPriority, supports, forward, backward};
}

// --- rotary: inputs x, cos, sin; integers interleaved

at::Tensor rotated(const at::Tensor& input, const at::Tensor& cos, const at::Tensor& sin,
                   const OpAttributes& attributes, float direction) {
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = input.stride(-1) == 1 ? input : input.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const cuda::RotaryShape shape{type_of(x),  x.size(0),   x.size(1),   x.size(2),
                                cos.size(1), x.stride(0), x.stride(1), attributes.integers[0] != 0,
                                direction};
  require_success(cuda::rotary(shape, x.const_data_ptr(), cos.const_data_ptr<float>(),
                               sin.const_data_ptr<float>(), y.mutable_data_ptr(), stream_of(x)),
                  "rotary");
  return y;
}

OpImplementation rotary() {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    return is_computed(inputs[0]) && inputs[0].dim() == 3 && inputs[1].is_cuda() &&
           inputs[1].scalar_type() == at::kFloat && inputs[1].is_contiguous() &&
           inputs[2].is_contiguous();
  };
  const auto forward = [](const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
    saved.tensors = {inputs[1], inputs[2]};
    return Tensors{rotated(inputs[0], inputs[1], inputs[2], attributes, 1.0F)};
  };
  const auto backward = [](const Saved& saved, const OpAttributes& attributes,
                           const Tensors& grad_outputs, const std::vector<bool>&) {
    return Tensors{
        rotated(grad_outputs[0], saved.tensors[0], saved.tensors[1], attributes, -1.0F), {}, {}};
  };
  return {"rotary", kName, kPriority, supports, forward, backward};
}

// --- gated_activation: inputs gate, up; integers activation

OpImplementation gated_activation() {
  const auto supports = [](const Tensors& inputs, const OpAttributes& attributes) {
    constexpr std::int64_t kKnown = 6;  // those of ops::Activation that the kernel has
    return is_computed(inputs[0]) && inputs[1].scalar_type() == inputs[0].scalar_type() &&
           inputs[0].sizes() == inputs[1].sizes() && attributes.integers[0] < kKnown;
  };
  const auto forward = [](const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
    const c10::cuda::CUDAGuard guard(inputs[0].device());
    const at::Tensor gate = inputs[0].contiguous();
    const at::Tensor up = inputs[1].contiguous();
    at::Tensor y = at::empty_like(gate);
    require_success(
        cuda::gated_activation_forward(type_of(gate), static_cast<int>(attributes.integers[0]),
                                       gate.numel(), gate.const_data_ptr(), up.const_data_ptr(),
                                       y.mutable_data_ptr(), stream_of(gate)),
        "gated_activation");
    saved.tensors = {gate, up};
    return Tensors{y};
  };
  const auto backward = [](const Saved& saved, const OpAttributes& attributes,
                           const Tensors& grad_outputs, const std::vector<bool>&) {
    const at::Tensor& gate = saved.tensors[0];
    const c10::cuda::CUDAGuard guard(gate.device());
    const at::Tensor dy = grad_outputs[0].contiguous();
    at::Tensor dgate = at::empty_like(gate);
    at::Tensor dup = at::empty_like(gate);
    require_success(
        cuda::gated_activation_backward(
            type_of(gate), static_cast<int>(attributes.integers[0]), gate.numel(),
            gate.const_data_ptr(), saved.tensors[1].const_data_ptr(), dy.const_data_ptr(),
            dgate.mutable_data_ptr(), dup.mutable_data_ptr(), stream_of(gate)),
        "gated_activation");
    return Tensors{dgate, dup};
  };
  return {"gated_activation", kName, kPriority, supports, forward, backward};
}

// --- cross_entropy: inputs logits, labels; numbers smoothing, z weight, soft cap

cuda::CrossEntropyShape cross_entropy_shape(const at::Tensor& logits,
                                            const OpAttributes& attributes) {
  return {type_of(logits),
          logits.size(0),
          logits.size(1),
          static_cast<float>(attributes.numbers[0]),
          static_cast<float>(attributes.numbers[1]),
          static_cast<float>(attributes.numbers[2])};
}

OpImplementation cross_entropy() {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    return is_computed(inputs[0]) && inputs[0].dim() == 2 && inputs[1].is_cuda();
  };
  const auto forward = [](const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
    const c10::cuda::CUDAGuard guard(inputs[0].device());
    const at::Tensor logits = inputs[0].contiguous();
    const at::Tensor labels = inputs[1].contiguous();
    const cuda::CrossEntropyShape shape = cross_entropy_shape(logits, attributes);
    at::Tensor loss = empty_floats({shape.rows}, logits);
    at::Tensor lse = empty_floats({shape.rows}, logits);
    require_success(cuda::cross_entropy_forward(
                        shape, logits.const_data_ptr(), labels.const_data_ptr<std::int64_t>(),
                        loss.data_ptr<float>(), lse.data_ptr<float>(), stream_of(logits)),
                    "cross_entropy");
    saved.tensors = {logits, labels, lse};
    return Tensors{loss.sum(at::kDouble).to(at::kFloat)};
  };
  const auto backward = [](const Saved& saved, const OpAttributes& attributes,
                           const Tensors& grad_outputs, const std::vector<bool>&) {
    const at::Tensor& logits = saved.tensors[0];
    const c10::cuda::CUDAGuard guard(logits.device());
    at::Tensor grad = attributes.integers[0] != 0 ? logits : at::empty_like(logits);
    const at::Tensor scale = grad_outputs[0].to(at::kFloat);
    require_success(cuda::cross_entropy_backward(
                        cross_entropy_shape(logits, attributes), logits.const_data_ptr(),
                        saved.tensors[1].const_data_ptr<std::int64_t>(),
                        saved.tensors[2].const_data_ptr<float>(), scale.const_data_ptr<float>(),
                        grad.mutable_data_ptr(), stream_of(logits)),
                    "cross_entropy");
    return Tensors{grad, {}};
  };
  return {"cross_entropy", kName, kPriority, supports, forward, backward};
}

// --- decode_linear: inputs x, weight, bias, scale

std::optional<cuda::DecodeWeight> weight_of(const at::Tensor& weight, at::ScalarType type) {
  if (weight.scalar_type() == at::kChar) return cuda::DecodeWeight::kInt8;
  if (weight.scalar_type() == type) return cuda::DecodeWeight::kAsValues;
  if (weight.scalar_type() == at::kFloat) return cuda::DecodeWeight::kFloat;
  return std::nullopt;
}

OpImplementation decode_linear() {
  const auto supports = [](const Tensors& inputs, const OpAttributes&) {
    const at::Tensor& x = inputs[0];
    const at::Tensor& weight = inputs[1];
    return is_computed(x) && x.dim() == 2 && weight.is_cuda() && weight.is_contiguous() &&
           weight_of(weight, x.scalar_type()).has_value();
  };
  const auto forward = [](const Tensors& inputs, const OpAttributes&, Saved& saved) {
    const c10::cuda::CUDAGuard guard(inputs[0].device());
    const auto as_floats = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.to(at::kFloat).contiguous() : tensor;
    };
    const auto floats = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
    };
    const at::Tensor x = inputs[0].contiguous();
    const at::Tensor& weight = inputs[1];
    const at::Tensor bias = as_floats(inputs[2]);
    const at::Tensor scale = as_floats(inputs[3]);
    at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
    const cuda::DecodeShape shape{type_of(x), *weight_of(weight, x.scalar_type()), x.size(0),
                                  x.size(1), weight.size(0)};
    require_success(
        cuda::decode_linear(shape, x.const_data_ptr(), weight.const_data_ptr(), floats(scale),
                            floats(bias), y.mutable_data_ptr(), stream_of(x)),
        "decode_linear");
    saved.tensors = {inputs[0], weight, inputs[3]};
    return Tensors{y};
  };
  // Nothing is trained this way: the reference's will do.
  return {"decode_linear", kName,   kPriority,
          supports,        forward, ops::decode_linear_reference().backward};
}

class CudaKernels final : public KernelPack {
 public:
  std::string unavailable() const override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status == cudaSuccess && devices > 0) return {};
    return std::string("no GPU was found (") + cudaGetErrorString(status) + ")";
  }
  std::vector<OpImplementation> implementations() const override {
    return {rms_norm(),      rotary(),        gated_activation(),
            cross_entropy(), decode_linear(), cuda::document_attention_op()};
  }
};

void register_components(Registrar& registrar) {
  registrar
      .add<KernelPack, CudaKernels>("cuda_kernels",
                                    "fused kernels for NVIDIA GPUs: norms, rotary positions, "
                                    "gated activations, cross entropy, attention in documents, "
                                    "linears of few rows")
      .serves("ops", {"rms_norm", "rotary", "gated_activation", "cross_entropy",
                      "document_attention", "decode_linear"})
      .serves("devices", {"cuda"});
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.cuda_kernels", "0.1.0", espalier::register_components)

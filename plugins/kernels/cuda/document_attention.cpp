// Attention in documents of any length: LibTorch's flash attention, which takes where documents
// begin, keys that several heads share, and a window. Dao 2023, "FlashAttention-2".
#include "espalier/ops/document_attention.h"

#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime.h>

#include <optional>
#include <tuple>

#include "binding.h"

namespace espalier::cuda {
namespace {

using ops::OpAttributes;
using ops::OpImplementation;
using ops::Saved;
using ops::Tensors;

constexpr std::int64_t kWidthStep = 8;  // of heads
constexpr std::int64_t kLargestWidth = 256;
constexpr int kAmpere = 8;  // the first chips that the kernels are for

bool is_taken(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  return tensor.is_cuda() && (type == at::kBFloat16 || type == at::kHalf);
}

bool has_chip(at::Device device) {
  int major = 0;
  const cudaError_t status =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index());
  return status == cudaSuccess && major >= kAmpere;
}

/// The last dimension dense, as the kernels read it.
at::Tensor dense_rows(const at::Tensor& tensor) {
  return tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

/// How many tokens before itself one sees, and how many after; none of both without a window.
struct Reach {
  explicit Reach(const OpAttributes& attributes) {
    if (attributes.integers[0] == 0) return;
    left = attributes.integers[0] - 1;
    right = 0;
  }
  std::optional<std::int64_t> left;
  std::optional<std::int64_t> right;
};

bool supports(const Tensors& inputs, const OpAttributes&) {
  const at::Tensor& q = inputs[0];
  return is_taken(q) && q.dim() == 3 && q.numel() > 0 && q.size(2) % kWidthStep == 0 &&
         q.size(2) <= kLargestWidth && inputs[2].size(2) == q.size(2) &&
         inputs[1].scalar_type() == q.scalar_type() && inputs[2].scalar_type() == q.scalar_type() &&
         has_chip(q.device());
}

// saved: q, k, v, starts on the device, output, log of the sums, two of the kernel's own, and
// starts
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  const c10::cuda::CUDAGuard guard(inputs[0].device());
  const at::Tensor q = dense_rows(inputs[0]);
  const at::Tensor k = dense_rows(inputs[1]);
  const at::Tensor v = dense_rows(inputs[2]);
  const at::Tensor host_starts = inputs[3].contiguous();
  const at::Tensor starts = host_starts.to(at::kInt).to(q.device(), /*non_blocking=*/true);
  const Reach reach(attributes);
  const std::int64_t longest = ops::longest_document(host_starts);
  const auto [output, sums, first, second, unused] = at::_flash_attention_forward(
      q, k, v, starts, starts, longest, longest, /*dropout_p=*/0.0, /*is_causal=*/true,
      /*return_debug_mask=*/false, attributes.numbers[0], reach.left, reach.right);
  saved.tensors = {q, k, v, starts, output, sums, first, second, host_starts};
  return {output};
}

Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>&) {
  const Tensors& kept = saved.tensors;
  const c10::cuda::CUDAGuard guard(kept[0].device());
  const Reach reach(attributes);
  const std::int64_t longest = ops::longest_document(kept[8]);
  const auto [dq, dk, dv] = at::_flash_attention_backward(
      grad_outputs[0].contiguous(), kept[0], kept[1], kept[2], kept[4], kept[5], kept[3], kept[3],
      longest, longest, /*dropout_p=*/0.0, /*is_causal=*/true, kept[6], kept[7],
      attributes.numbers[0], reach.left, reach.right);
  return {dq, dk, dv, {}};
}

}  // namespace

OpImplementation document_attention_op() {
  return {"document_attention", kName, kPriority, supports, forward, backward};
}

}  // namespace espalier::cuda

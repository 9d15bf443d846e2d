// low_rank_update: inputs output, x, a, b; numbers scale; integers whether the output may be
// written over.
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>

#include "binding.h"

namespace espalier::cpu {
namespace {

using ops::OpAttributes;
using ops::OpImplementation;
using ops::Saved;
using ops::Tensors;

constexpr std::int64_t kLargestRank = 64;  // LibTorch's blocks are full beyond it

/// [r, n] in float32 with rows of whole vectors.
at::Tensor side_of(const at::Tensor& matrix, std::int64_t lanes) {
  const std::int64_t padded = (matrix.size(1) + lanes - 1) / lanes * lanes;
  if (padded == matrix.size(1)) return matrix.to(at::kFloat).contiguous();
  at::Tensor side = at::zeros({matrix.size(0), padded}, matrix.options().dtype(at::kFloat));
  side.narrow(1, 0, matrix.size(1)).copy_(matrix);
  return side;
}

/// Rows that lie dense in themselves.
bool has_rows(const at::Tensor& tensor, const at::Tensor& like) {
  return is_computed(tensor) && tensor.scalar_type() == like.scalar_type() && tensor.dim() == 2 &&
         tensor.size(1) > 0 && (tensor.stride(1) == 1 || tensor.size(1) == 1);
}

bool supports(const Tensors& inputs, const OpAttributes&) {
  const at::Tensor& output = inputs[0];
  return has_rows(output, output) && has_rows(inputs[1], output) && has_rows(inputs[2], output) &&
         has_rows(inputs[3], output) && inputs[2].size(0) <= kLargestRank;
}

/// What forward and backward have in common.
struct Call {
  Call(const Kernels& kernels, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
       const OpAttributes& attributes)
      : side_a(side_of(a, kernels.lanes)),
        side_b(side_of(at::mul(b.t().to(at::kFloat), attributes.numbers[0]), kernels.lanes)) {
    arguments.type = type_of(x);
    arguments.in = a.size(1);
    arguments.out = b.size(0);
    arguments.rank = a.size(0);
    arguments.x_row = row_stride(x);
    arguments.a = side_a.const_data_ptr<float>();
    arguments.b = side_b.const_data_ptr<float>();
    arguments.x = x.const_data_ptr();
  }

  at::Tensor side_a;
  at::Tensor side_b;
  LowRankArguments arguments{};
};

/// scale inner^T x as [r, n], or transposed as [n, r].
at::Tensor sums_over_rows(const Kernels& kernels, const at::Tensor& inner, const at::Tensor& x,
                          double scale, bool transposed) {
  const std::int64_t columns = x.size(1);
  const std::int64_t rank = inner.size(1);
  at::Tensor to =
      at::empty(transposed ? at::IntArrayRef({columns, rank}) : at::IntArrayRef({rank, columns}),
                x.options().requires_grad(false));
  const LowRankSums arguments{type_of(x),
                              x.size(0),
                              columns,
                              rank,
                              row_stride(x),
                              transposed,
                              static_cast<float>(scale),
                              inner.const_data_ptr<float>(),
                              x.const_data_ptr(),
                              to.mutable_data_ptr()};
  over_rows(kernels.low_rank_sums, arguments, (columns + kernels.lanes - 1) / kernels.lanes,
            x.size(0) * kernels.lanes);
  return to;
}

}  // namespace

// saved: x, a, b, x a^T in float32
OpImplementation low_rank_update(const Kernels& kernels) {
  const auto forward = [&kernels](const Tensors& inputs, const OpAttributes& attributes,
                                  Saved& saved) {
    const at::Tensor& base = inputs[0];
    const at::Tensor& x = inputs[1];
    const bool over = attributes.integers[0] != 0;
    at::Tensor y = over ? base : at::empty(base.sizes(), base.options().requires_grad(false));
    at::Tensor inner =
        at::empty({x.size(0), inputs[2].size(0)}, at::TensorOptions().dtype(at::kFloat));
    Call call(kernels, x, inputs[2], inputs[3], attributes);
    call.arguments.base_row = row_stride(base);
    call.arguments.y_row = row_stride(y);
    call.arguments.base = base.const_data_ptr();
    call.arguments.y = y.mutable_data_ptr();
    call.arguments.inner = inner.data_ptr<float>();
    over_rows(kernels.low_rank_forward, call.arguments, x.size(0), x.size(1) + base.size(1));
    saved.tensors = {x, inputs[2], inputs[3], inner};
    return Tensors{y};
  };
  const auto backward = [&kernels](const Saved& saved, const OpAttributes& attributes,
                                   const Tensors& grad_outputs,
                                   const std::vector<bool>& needs_grad) {
    const at::Tensor& x = saved.tensors[0];
    const at::Tensor& inner = saved.tensors[3];
    const at::Tensor grad = as_rows(grad_outputs[0]);
    Tensors grads(4);
    if (needs_grad[0]) grads[0] = grad_outputs[0];
    if (needs_grad[1] || needs_grad[2]) {
      at::Tensor grad_inner = at::empty(inner.sizes(), inner.options());
      Call call(kernels, x, saved.tensors[1], saved.tensors[2], attributes);
      call.arguments.grad_row = row_stride(grad);
      call.arguments.grad = grad.const_data_ptr();
      call.arguments.grad_inner = grad_inner.data_ptr<float>();
      if (needs_grad[1]) {
        grads[1] = at::empty(x.sizes(), x.options().requires_grad(false));
        call.arguments.grad_x = grads[1].mutable_data_ptr();
      }
      over_rows(kernels.low_rank_backward, call.arguments, x.size(0), x.size(1) + grad.size(1));
      if (needs_grad[2]) grads[2] = sums_over_rows(kernels, grad_inner, x, 1.0, false);
    }
    if (needs_grad[3]) grads[3] = sums_over_rows(kernels, inner, grad, attributes.numbers[0], true);
    return grads;
  };
  return {"low_rank_update", kernels.instructions, kPriority, supports, forward, backward};
}

}  // namespace espalier::cpu

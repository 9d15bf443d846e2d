#include "int8_weight.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/ops/decode_linear.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLargestCode = 127.0;
constexpr std::int64_t kElementsAtOnce = 1 << 22;  // of codes that are converted

/// Calls work(first row, rows) for pieces of a matrix.
template <class Work>
void for_rows(const at::Tensor& codes, const Work& work) {
  const std::int64_t rows = codes.size(0);
  const std::int64_t piece =
      std::max<std::int64_t>(1, kElementsAtOnce / std::max<std::int64_t>(1, codes.size(1)));
  for (std::int64_t begin = 0; begin < rows; begin += piece)
    work(begin, std::min(piece, rows - begin));
}

/// y = x W^T. Both matrices are frozen: only x has a gradient, dx = dy W.
struct Int8Linear : torch::autograd::Function<Int8Linear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& codes, const at::Tensor& scales) {
    context->saved_data["codes"] = codes;
    context->saved_data["scales"] = scales;
    at::Tensor output = at::empty({input.size(0), codes.size(0)}, input.options());
    const at::Tensor factors = scales.to(input.scalar_type());
    for_rows(codes, [&](std::int64_t begin, std::int64_t rows) {
      const at::Tensor part = codes.narrow(0, begin, rows).to(input.scalar_type());
      output.narrow(1, begin, rows)
          .copy_(at::mm(input, part.t()).mul_(factors.narrow(0, begin, rows)));
    });
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
    const at::Tensor codes = context->saved_data["codes"].toTensor();
    const at::Tensor scales = context->saved_data["scales"].toTensor();
    const at::Tensor scaled = grad_outputs[0] * scales.to(grad_outputs[0].scalar_type());
    const at::Tensor grad = at::zeros({scaled.size(0), codes.size(1)}, scaled.options());
    for_rows(codes, [&](std::int64_t begin, std::int64_t rows) {
      grad.addmm_(scaled.narrow(1, begin, rows),
                  codes.narrow(0, begin, rows).to(scaled.scalar_type()));
    });
    return {grad, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

Int8Weight::Int8Weight(std::shared_ptr<Parameter> parameter, const at::Tensor& weight)
    : codes_(std::move(parameter)) {
  const at::NoGradGuard no_grad;
  at::Tensor scales = at::empty({weight.size(0)}, weight.options().dtype(at::kFloat));
  at::Tensor codes = at::empty(weight.sizes(), weight.options().dtype(at::kChar));
  if (!weight.is_meta()) {
    const at::Tensor dense = weight.to(at::kFloat);
    const at::Tensor largest = dense.abs().amax({1});
    scales = at::where(largest.gt(0), largest / kLargestCode, 1.0);
    codes =
        dense.div(scales.unsqueeze(1)).round_().clamp_(-kLargestCode, kLargestCode).to(at::kChar);
  }
  ParameterSpec spec{codes_->name() + "_scale", {codes_->spec().dimensions[0]}, {}};
  scales_ = std::make_shared<Parameter>(std::move(spec));
  scales_->set_trainable(false);
  scales_->set_value(scales);
  codes_->set_trainable(false);
  codes_->set_value(codes);
}

at::Tensor Int8Weight::linear(const at::Tensor& input, const at::Tensor& bias) const {
  if (ops::decodes(input))
    return ops::decode_linear(input, codes_->computed(), bias, scales_->value());
  at::Tensor output = Int8Linear::apply(input, codes_->computed(), scales_->value());
  return bias.defined() ? output + bias.to(output.scalar_type()) : output;
}

at::Tensor Int8Weight::rows(const at::Tensor& ids, at::ScalarType dtype) const {
  return codes_->computed()
      .index_select(0, ids)
      .to(at::kFloat)
      .mul_(scales_->value().index_select(0, ids).unsqueeze(1))
      .to(dtype);
}

at::Tensor Int8Weight::dense(at::ScalarType dtype) const {
  return codes_->computed().to(at::kFloat).mul_(scales_->value().unsqueeze(1)).to(dtype);
}

std::int64_t Int8Weight::bytes() const {
  return static_cast<std::int64_t>(codes_->value().nbytes() + scales_->value().nbytes());
}

}  // namespace espalier

#include "lora_module.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/random.h"
#include "espalier/io/tensor_io.h"
#include "espalier/ops/low_rank_update.h"

namespace espalier::lora {
namespace {

at::Tensor in_dtype(const Parameter& parameter, const at::Tensor& like) {
  return parameter.computed().to(like.scalar_type());
}

std::shared_ptr<Parameter> make_parameter(const std::string& name,
                                          std::vector<Dimension> dimensions) {
  return std::make_shared<Parameter>(
      ParameterSpec{kTensorPrefix + name, std::move(dimensions), {}});
}

/// Normal with `deviation`, or uniform in +- `bound` where that is given.
at::Tensor random_values(const Parameter& parameter, std::uint64_t seed, double deviation,
                         double bound) {
  at::Tensor values = at::empty(parameter.spec().shape(), at::TensorOptions().dtype(at::kFloat));
  const CounterRandom random(seed, hash_text(parameter.name()));
  float* data = values.data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    data[i] = static_cast<float>(bound > 0 ? (2 * random.uniform(index) - 1) * bound
                                           : random.normal(index) * deviation);
  }
  return values;
}

}  // namespace

at::Tensor start_of_a(const Parameter& a, const std::string& init, std::uint64_t seed) {
  const auto rank = static_cast<double>(a.spec().dimensions[0].size());
  const auto in = static_cast<double>(a.spec().dimensions[1].size());
  if (init == "xavier") return random_values(a, seed, std::sqrt(2.0 / (in + rank)), 0);
  if (init == "gaussian") return random_values(a, seed, 1.0 / rank, 0);
  return random_values(a, seed, 0, 1.0 / std::sqrt(in));  // Kaiming uniform with a = sqrt(5)
}

LoraModule::LoraModule(const Target& target, const LoraSettings& settings,
                       std::shared_ptr<const AdapterState> state)
    : target_(target),
      settings_(settings),
      state_(std::move(state)),
      scale_(settings.scale_of(target.name)) {
  const std::vector<Dimension>& shape = weight()->spec().dimensions;
  const Dimension rank{{{"lora_rank", settings.rank_of(name()), 1}}};
  const Dimension& out = is_linear() ? shape[0] : shape[1];
  const Dimension& in = is_linear() ? shape[1] : shape[0];
  a_ = make_parameter(name() + (is_linear() ? ".lora_A.weight" : ".lora_embedding_A"), {rank, in});
  b_ = make_parameter(name() + (is_linear() ? ".lora_B.weight" : ".lora_embedding_B"), {out, rank});
  if (settings.use_dora) magnitude_ = make_parameter(name() + ".lora_magnitude_vector", {out});
}

const std::shared_ptr<Parameter>& LoraModule::weight() const {
  return is_linear() ? target_.linear->weight() : target_.embedding->weight();
}

std::vector<std::shared_ptr<Parameter>> LoraModule::tensors() const {
  if (magnitude_ == nullptr) return {a_, b_};
  return {a_, b_, magnitude_};
}

void LoraModule::initialise(const LoraSettings& settings, std::uint64_t seed) {
  const at::ScalarType dtype = scalar_type_from_name(settings.dtype);
  const auto zeros = [](const Parameter& parameter) {
    return at::zeros(parameter.spec().shape(), at::TensorOptions().dtype(at::kFloat));
  };
  const at::Tensor a = is_linear() ? start_of_a(*a_, settings.init, seed) : zeros(*a_);
  const at::Tensor b = is_linear() ? zeros(*b_) : random_values(*b_, seed, 1.0, 0);
  a_->set_value(a.to(dtype));
  b_->set_value(b.to(dtype));
  if (magnitude_ != nullptr) {
    const at::NoGradGuard no_grad;
    const at::Device device = weight()->value().device();
    a_->set_value(a.to(device, dtype));
    b_->set_value(b.to(device, dtype));
    magnitude_->set_value(row_norms().to(dtype));
  }
}

at::Tensor LoraModule::matrix() const {
  const at::NoGradGuard no_grad;
  if (is_linear()) return target_.linear->storage().dense(at::kFloat);
  return target_.embedding->storage().dense(at::kFloat).t();
}

at::Tensor LoraModule::to_weight(const at::Tensor& matrix) const {
  const at::Tensor laid_out = is_linear() ? matrix : matrix.t();
  return laid_out.to(weight()->value().scalar_type()).contiguous();
}

at::Tensor LoraModule::merged(const at::Tensor& matrix) const {
  const at::NoGradGuard no_grad;
  const at::Tensor a = a_->computed().to(at::kFloat);
  const at::Tensor b = b_->computed().to(at::kFloat);
  const at::Tensor sum = at::addmm(matrix, b, a, 1, scale_);
  return magnitude_ == nullptr ? sum : sum * magnitude_factor().unsqueeze(-1);
}

void LoraModule::keep_share(const nn::LinearShare& share) {
  share_ = share;
  squared_norms_.reset();  // were those of the whole
}

at::Tensor LoraModule::row_norms() const {
  const at::NoGradGuard no_grad;
  const at::Tensor squares = squared_row_norms(a_->computed().detach().to(at::kFloat),
                                               b_->computed().detach().to(at::kFloat));
  // Each rank has some columns of every row.
  if (share_.axis.ranks != nullptr && share_.side == nn::LinearSide::kInputs)
    share_.axis.ranks->all_reduce(squares, "norms of rows")->wait();
  return squares.clamp_min(0).sqrt();
}

// |m + s b A|^2 = |m|^2 + 2 s b . (A m) + s^2 b (A A^T) b^T for each row: nothing of the weight's
// size is made but the first time.
at::Tensor LoraModule::squared_row_norms(const at::Tensor& a, const at::Tensor& b) const {
  if (!squared_norms_.defined()) squared_norms_ = matrix().square().sum(-1);
  const at::Tensor products =  // [out, r]
      is_linear() ? target_.linear->storage().linear(a, {}).t() : at::mm(matrix(), a.t());
  const at::Tensor cross = (products * b).sum(-1) * (2 * scale_);
  const at::Tensor square = (at::mm(b, at::mm(a, a.t())) * b).sum(-1) * (scale_ * scale_);
  return squared_norms_ + cross + square;
}

at::Tensor LoraModule::magnitude_factor() const {
  return magnitude_->computed().to(at::kFloat) / row_norms();
}

at::Tensor LoraLinear::apply(const nn::Linear& linear, const at::Tensor& input, at::Tensor output) {
  if (!state().enabled) return output;
  if (has_magnitude()) return apply_dora(linear, input, std::move(output));
  const at::Tensor a = in_dtype(*LoraModule::a(), input);
  const at::Tensor b = in_dtype(*LoraModule::b(), input);
  if (!drops()) return ops::add_low_rank(std::move(output), input, a, b, scale());
  if (settings().dropout_before)
    return ops::add_low_rank(std::move(output), input * mask(input, nn::LinearSide::kInputs), a, b,
                             scale());
  const at::Tensor update = at::linear(at::linear(input, a), b);
  return at::addcmul(output, update, mask(update, nn::LinearSide::kOutputs), scale());
}

std::optional<std::size_t> LoraLinear::dimension_along(nn::LinearSide side,
                                                       const Parameter& parameter) const {
  if (side == nn::LinearSide::kInputs)
    return &parameter == a().get() ? std::optional<std::size_t>(1) : std::nullopt;
  return &parameter == a().get() ? std::nullopt : std::optional<std::size_t>(0);
}

at::Tensor LoraLinear::bias_in_output(const nn::Linear& linear, const at::Tensor& like) const {
  const bool elsewhere = share().axis.ranks != nullptr && share().side == nn::LinearSide::kInputs &&
                         share().axis.ranks->rank() > 0;
  return linear.bias() == nullptr || elsewhere ? at::Tensor() : in_dtype(*linear.bias(), like);
}

// Without dropout: g (x M^T + scale x A^T B^T) + bias with g = magnitude / n. With dropout the base
// product sees the dropped input where the magnitude changes it, as in PEFT.
at::Tensor LoraLinear::apply_dora(const nn::Linear& linear, const at::Tensor& input,
                                  at::Tensor output) {
  const at::Tensor factor = magnitude_factor().to(input.scalar_type());
  const at::Tensor a = in_dtype(*LoraModule::a(), input);
  const at::Tensor b = in_dtype(*LoraModule::b(), input);
  const at::Tensor bias = bias_in_output(linear, input);
  if (!drops()) {
    if (!bias.defined()) return ops::add_low_rank(std::move(output), input, a, b, scale()) * factor;
    return at::addcmul(bias, ops::add_low_rank(output - bias, input, a, b, scale()), factor);
  }
  if (!settings().dropout_before) {
    const at::Tensor update = at::linear(at::linear(input, a), b);
    const at::Tensor base = bias.defined() ? output - bias : output;
    return output + base * (factor - 1) +
           update * mask(update, nn::LinearSide::kOutputs) * (factor * scale());
  }
  const at::Tensor dropped = input * mask(input, nn::LinearSide::kInputs);
  const at::Tensor base = linear.storage().linear(dropped, {});
  const at::Tensor update = at::linear(at::linear(dropped, a), b);
  return output + base * (factor - 1) + update * (factor * scale());
}

at::Tensor LoraEmbedding::apply(const nn::Embedding&, const at::Tensor& ids, at::Tensor output) {
  if (!state().enabled) return output;
  const at::Tensor rows = at::embedding(a()->computed().t(), ids).to(output.scalar_type());
  const at::Tensor update = at::linear(rows, in_dtype(*b(), output));
  if (!has_magnitude()) return output + update * scale();
  return (output + update * scale()) * magnitude_factor().to(output.scalar_type());
}

}  // namespace espalier::lora

// A kernel for one op of the table: SiLU gating in one pass over its inputs, on the CPU in float32.
#include <ATen/ops/empty_like.h>
#include <espalier/ops/gated_activation.h>
#include <espalier/ops/op.h>
#include <espalier/ops/parallel_for.h>
#include <espalier/sdk/plugin.h>

#include <cmath>

namespace {

using espalier::ops::OpAttributes;
using espalier::ops::Saved;
using espalier::ops::Tensors;

constexpr std::int64_t kGrain = 4096;  // elements that are worth a thread

/// Calls that the kernel takes; the others go to the reference.
bool supports(const Tensors& inputs, const OpAttributes& attributes) {
  constexpr auto kSilu = static_cast<std::int64_t>(espalier::ops::Activation::kSilu);
  return attributes.integers[0] == kSilu && inputs[0].is_cpu() &&
         inputs[0].scalar_type() == at::kFloat && inputs[1].scalar_type() == at::kFloat;
}

Tensors forward(const Tensors& inputs, const OpAttributes&, Saved& saved) {
  const at::Tensor gate = inputs[0].contiguous();
  const at::Tensor up = inputs[1].contiguous();
  at::Tensor out = at::empty_like(gate);
  const float* g = gate.const_data_ptr<float>();
  const float* u = up.const_data_ptr<float>();
  float* y = out.data_ptr<float>();
  espalier::ops::parallel_for(0, out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
  });
  saved.tensors = {gate, up};
  return {out};
}

Tensors backward(const Saved& saved, const OpAttributes&, const Tensors& grad_outputs,
                 const std::vector<bool>&) {
  const at::Tensor grad = grad_outputs[0].contiguous();
  at::Tensor grad_gate = at::empty_like(grad);
  at::Tensor grad_up = at::empty_like(grad);
  const float* g = saved.tensors[0].const_data_ptr<float>();
  const float* u = saved.tensors[1].const_data_ptr<float>();
  const float* dy = grad.const_data_ptr<float>();
  float* dg = grad_gate.data_ptr<float>();
  float* du = grad_up.data_ptr<float>();
  espalier::ops::parallel_for(0, grad.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float s = 1 / (1 + std::exp(-g[i]));
      dg[i] = dy[i] * u[i] * s * (1 + g[i] * (1 - s));
      du[i] = dy[i] * g[i] * s;
    }
  });
  return {grad_gate, grad_up};
}

class {{Name}} final : public espalier::KernelPack {
 public:
  std::string unavailable() const override { return {}; }  // or why this machine can't run it
  std::vector<espalier::ops::OpImplementation> implementations() const override {
    return {{"gated_activation", "{{name}}", /*priority=*/10, supports, forward, backward}};
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::KernelPack, {{Name}}>("{{name}}", "SiLU gating in one pass");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)

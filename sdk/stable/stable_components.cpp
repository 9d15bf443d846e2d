// Losses and kernel packs of plugins in C, behind the C++ interfaces.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/base/error.h"
#include "espalier/base/stable_registrar.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/loss.h"
#include "espalier/stable/stable_tensor.h"

namespace espalier::stable {
namespace {

using ops::OpAttributes;
using ops::OpImplementation;
using ops::Saved;
using ops::Tensors;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A plugin's own object, with what destroys it.
class Instance {
 public:
  Instance(const EspalierCLoss& loss, const Value& config) : loss_(loss) {
    std::vector<EspalierCValue> values;
    for (std::size_t i = 0; i < loss.num_fields; ++i) {
      const Value* value = config.find(loss.fields[i].name);
      EspalierCValue entry{loss.fields[i].name, 0, 0, nullptr};
      if (value != nullptr && value->is_string()) entry.text = value->as_string().c_str();
      if (value != nullptr && value->is_bool()) entry.integer = value->as_bool() ? 1 : 0;
      if (value != nullptr && value->is_int()) entry.integer = value->as_int();
      entry.number = static_cast<double>(entry.integer);
      if (value != nullptr && value->is_float()) entry.number = value->as_float();
      values.push_back(entry);
    }
    if (loss.create == nullptr) return;
    const EspalierCConfig c_config{sizeof(EspalierCConfig), values.size(), values.data()};
    const Call call;  // for its message
    call.require_success(
        loss.create(&c_config, &self_, call.get()->message, call.get()->message_size),
        std::string("making the loss '") + loss.name + "'");
  }
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  ~Instance() {
    if (loss_.destroy != nullptr) loss_.destroy(self_);
  }

  /// The sum, and its gradient for the logits where it is wanted.
  std::pair<at::Tensor, at::Tensor> compute(const at::Tensor& logits, const at::Tensor& labels,
                                            bool wants_gradient) const {
    const at::Tensor sum = at::empty({}, logits.options().dtype(at::kFloat));
    const at::Tensor gradient =
        wants_gradient ? at::empty_like(logits, at::MemoryFormat::Contiguous) : at::Tensor();
    Call call;
    call.set_inputs({logits, labels});
    call.set_outputs({sum, gradient});
    if (loss_.workspace != nullptr)
      call.set_workspace(loss_.workspace(self_, logits.size(0), logits.size(1)));
    call.require_success(loss_.compute(self_, call.get()),
                         std::string("the loss '") + loss_.name + "'");
    return {sum, gradient};
  }

 private:
  const EspalierCLoss& loss_;
  void* self_ = nullptr;
};

struct LossFunction : torch::autograd::Function<LossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits,
                            const at::Tensor& labels, const Instance* instance) {
    const auto [sum, gradient] = instance->compute(logits, labels, logits.requires_grad());
    context->save_for_backward({gradient});
    return sum;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor gradient = context->get_saved_variables()[0];
    return {gradient * grads[0].to(gradient.scalar_type()), {}, {}};
  }
};

class StableLoss final : public Loss {
 public:
  StableLoss(const EspalierCLoss& loss, const Value& config) : instance_(loss, config) {}

  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    const at::Tensor rows = labelled(labels);
    return LossFunction::apply(head.project(hidden.index_select(0, rows)),
                               labels.index_select(0, rows), &instance_);
  }
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor rows = labelled(labels);
    return LossFunction::apply(logits.index_select(0, rows), labels.index_select(0, rows),
                               &instance_);
  }

 private:
  static at::Tensor labelled(const at::Tensor& labels) {
    return labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
  }

  const Instance instance_;
};

bool supports(const EspalierCKernel& kernel, std::int32_t device_type, const Tensors& inputs,
              const OpAttributes& attributes) {
  for (const at::Tensor& input : inputs) {
    if (input.defined() && input.is_cuda() != (device_type == ESPALIER_C_CUDA)) return false;
  }
  if (kernel.supports == nullptr) return true;
  Call call;
  call.set_inputs(inputs);
  call.set_attributes(attributes);
  return kernel.supports(call.get()) != 0;
}

Tensors forward(const EspalierCKernel& kernel, const Tensors& inputs,
                const OpAttributes& attributes, Saved& saved) {
  const std::string what = std::string("kernel '") + kernel.name + "' of " + kernel.op;
  Call call;
  call.set_inputs(inputs);
  call.set_attributes(attributes);
  std::vector<EspalierCShape> shapes(kernel.num_outputs + kernel.num_saved);
  call.require_success(kernel.describe(call.get(), shapes.data()), what);
  Tensors results;
  for (const EspalierCShape& shape : shapes) results.push_back(allocate(shape, inputs[0].device()));
  call.set_outputs(results);
  if (kernel.workspace != nullptr) call.set_workspace(kernel.workspace(call.get(), 0));
  call.require_success(kernel.forward(call.get()), what);
  const auto outputs = static_cast<std::ptrdiff_t>(kernel.num_outputs);
  saved.tensors = inputs;
  saved.tensors.insert(saved.tensors.end(), results.begin() + outputs, results.end());
  results.resize(kernel.num_outputs);
  return results;
}

Tensors backward(const EspalierCKernel& kernel, const Saved& saved, const OpAttributes& attributes,
                 const Tensors& grad_outputs, const std::vector<bool>& needs_grad) {
  Tensors inputs = saved.tensors;
  inputs.insert(inputs.end(), grad_outputs.begin(), grad_outputs.end());
  Tensors grads(needs_grad.size());
  for (std::size_t i = 0; i < needs_grad.size(); ++i) {
    if (needs_grad[i]) grads[i] = at::empty_like(saved.tensors[i], at::MemoryFormat::Contiguous);
  }
  Call call;
  call.set_inputs(inputs);
  call.set_outputs(grads);
  call.set_attributes(attributes);
  if (kernel.workspace != nullptr) call.set_workspace(kernel.workspace(call.get(), 1));
  call.require_success(kernel.backward(call.get()),
                       std::string("kernel '") + kernel.name + "' of " + kernel.op);
  return grads;
}

class StableKernelPack final : public KernelPack {
 public:
  explicit StableKernelPack(const EspalierCKernelPack& pack) : pack_(pack) {}

  std::string unavailable() const override {
    if (pack_.unavailable == nullptr) return {};
    const Call call;  // for its message
    if (pack_.unavailable(call.get()->message, call.get()->message_size) == 0) return {};
    return call.get()->message;
  }

  std::vector<OpImplementation> implementations() const override {
    std::vector<OpImplementation> found;
    for (std::size_t i = 0; i < pack_.num_kernels; ++i) {
      const EspalierCKernel& kernel = *pack_.kernels[i];
      const std::int32_t device = pack_.device_type;
      found.push_back(
          {kernel.op, kernel.name, kernel.priority,
           [&kernel, device](const Tensors& inputs, const OpAttributes& attributes) {
             return supports(kernel, device, inputs, attributes);
           },
           [&kernel](const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
             return forward(kernel, inputs, attributes, saved);
           },
           [&kernel](const Saved& saved, const OpAttributes& attributes, const Tensors& grads,
                     const std::vector<bool>& needs_grad) {
             return backward(kernel, saved, attributes, grads, needs_grad);
           }});
    }
    return found;
  }

 private:
  const EspalierCKernelPack& pack_;
};

}  // namespace

void register_factories() {
  set_stable_factory(
      "Loss", [](const void* structure, const Value& config) -> std::shared_ptr<void> {
        return std::shared_ptr<Loss>(
            std::make_shared<StableLoss>(*static_cast<const EspalierCLoss*>(structure), config));
      });
  set_stable_factory("KernelPack",
                     [](const void* structure, const Value&) -> std::shared_ptr<void> {
                       return std::shared_ptr<KernelPack>(std::make_shared<StableKernelPack>(
                           *static_cast<const EspalierCKernelPack*>(structure)));
                     });
}

}  // namespace espalier::stable

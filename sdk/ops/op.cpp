#include "espalier/ops/op.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/ops/reference.h"

namespace espalier {

KernelPack::~KernelPack() = default;

namespace ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::size_t kMaximumInputs = 7;

/// The one autograd node behind every op. The implementation outlives the graph: the table never
/// shrinks. Autograd sees tensors only as direct arguments, not in a list; those that an op has not
/// are undefined.
struct OpNode : torch::autograd::Function<OpNode> {
  using Input = std::optional<at::Tensor>;

  static variable_list forward(AutogradContext* context, const Input& a, const Input& b,
                               const Input& c, const Input& d, const Input& e, const Input& f,
                               const Input& g, std::int64_t count,
                               const OpImplementation* implementation,
                               const OpAttributes& attributes) {
    Saved saved;
    variable_list inputs;
    for (const Input* input : {&a, &b, &c, &d, &e, &f, &g})
      inputs.push_back(input->value_or(at::Tensor()));
    inputs.resize(static_cast<std::size_t>(count));
    std::vector<std::int64_t> given;  // autograd numbers only the inputs that are there
    for (std::int64_t i = 0; i < count; ++i) {
      if (inputs[static_cast<std::size_t>(i)].defined()) given.push_back(i);
    }
    variable_list outputs = implementation->forward(inputs, attributes, saved);
    context->save_for_backward(std::move(saved.tensors));
    context->saved_data["implementation"] =
        implementation - OpTable::instance().implementations().data();
    std::vector<double> numbers(attributes.numbers.begin(), attributes.numbers.end());
    std::vector<std::int64_t> integers(attributes.integers.begin(), attributes.integers.end());
    context->saved_data["numbers"] = std::move(numbers);
    context->saved_data["integers"] = std::move(integers);
    context->saved_data["inputs"] = count;
    context->saved_data["given"] = std::move(given);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const OpImplementation* implementation = OpTable::instance().implementations().data() +
                                             context->saved_data["implementation"].toInt();
    OpAttributes attributes;
    const auto numbers = context->saved_data["numbers"].toDoubleVector();
    const auto integers = context->saved_data["integers"].toIntVector();
    std::copy(numbers.begin(), numbers.end(), attributes.numbers.begin());
    std::copy(integers.begin(), integers.end(), attributes.integers.begin());
    const auto count = static_cast<std::size_t>(context->saved_data["inputs"].toInt());
    const auto given = context->saved_data["given"].toIntVector();
    std::vector<bool> needs_grad(count);
    for (std::size_t i = 0; i < given.size(); ++i) {
      needs_grad[static_cast<std::size_t>(given[i])] = context->needs_input_grad(i);
    }
    Saved saved{context->get_saved_variables()};
    variable_list grads = implementation->backward(saved, attributes, grad_outputs, needs_grad);
    grads.resize(kMaximumInputs + 3);  // count, implementation and attributes have no gradient
    return grads;
  }
};

}  // namespace

OpTable& OpTable::instance() {
  static OpTable* const kTable = new OpTable();  // leaked: used until the last plugin is gone
  return *kTable;
}

OpTable::OpTable() {
  implementations_.reserve(256);  // nodes keep pointers into it
  for (OpImplementation& implementation : reference_implementations())
    add(std::move(implementation));
}

void OpTable::add(OpImplementation implementation) {
  ESPALIER_ASSERT(implementations_.size() < implementations_.capacity(),
                  "too many op implementations");
  implementations_.push_back(std::move(implementation));
}

const OpImplementation& OpTable::select(std::string_view op, const Tensors& inputs,
                                        const OpAttributes& attributes) const {
  const OpImplementation* best = nullptr;
  for (const OpImplementation& candidate : implementations_) {
    if (candidate.op != op || (best != nullptr && candidate.priority <= best->priority)) continue;
    if (!candidate.supports || candidate.supports(inputs, attributes)) best = &candidate;
  }
  ESPALIER_ASSERT(best != nullptr, "no implementation of op '" + std::string(op) + "'");
  return *best;
}

Tensors call(std::string_view op, Tensors inputs, const OpAttributes& attributes) {
  const OpImplementation& implementation = OpTable::instance().select(op, inputs, attributes);
  const bool records = at::GradMode::is_enabled() &&
                       std::any_of(inputs.begin(), inputs.end(), [](const at::Tensor& t) {
                         return t.defined() && t.requires_grad();
                       });
  if (records) {
    ESPALIER_ASSERT(inputs.size() <= kMaximumInputs, "an op has too many inputs");
    const auto count = static_cast<std::int64_t>(inputs.size());
    inputs.resize(kMaximumInputs);
    const auto input = [&](std::size_t i) {
      return inputs[i].defined() ? OpNode::Input(inputs[i]) : std::nullopt;
    };
    return OpNode::apply(input(0), input(1), input(2), input(3), input(4), input(5), input(6),
                         count, &implementation, attributes);
  }
  Saved saved;
  return implementation.forward(inputs, attributes, saved);
}

}  // namespace ops
}  // namespace espalier

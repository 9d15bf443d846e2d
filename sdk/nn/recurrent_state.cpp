#include "espalier/nn/recurrent_state.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "espalier/nn/kv_cache.h"

namespace espalier::nn {
namespace {

enum Slot : std::size_t { kHistory, kScan, kSlots };

std::vector<at::Tensor>& slots(const BatchContext& context, std::int64_t layer,
                               std::int64_t document) {
  std::vector<at::Tensor>& state = context.cache->state(layer, document);
  state.resize(kSlots);
  return state;
}

}  // namespace

at::Tensor convolve_documents(const CausalConvolution& convolution, const at::Tensor& x,
                              const BatchContext& context, std::int64_t layer) {
  if (context.cache == nullptr) return convolution.forward(x, context.layout);
  std::vector<at::Tensor> parts;
  for (std::int64_t d = 0; d < context.layout.documents(); ++d) {
    const std::int64_t begin = context.layout.document_starts[static_cast<std::size_t>(d)];
    const std::int64_t end = context.layout.document_starts[static_cast<std::size_t>(d) + 1];
    at::Tensor history = slots(context, layer, d)[kHistory];
    parts.push_back(convolution.forward_from(x.narrow(0, begin, end - begin), history));
    slots(context, layer, d)[kHistory] = history;
  }
  return parts.empty() ? x : at::cat(parts);
}

at::Tensor scan_documents(ops::ScanInputs inputs, const BatchContext& context, std::int64_t layer) {
  const std::int64_t documents = context.layout.documents();
  if (context.cache == nullptr || documents == 0)
    return ops::selective_scan(inputs, context.layout.document_starts).y;
  std::vector<at::Tensor> states;
  for (std::int64_t d = 0; d < documents; ++d) {
    const at::Tensor& state = slots(context, layer, d)[kScan];
    states.push_back(state.defined()
                         ? state
                         : at::zeros({inputs.x.size(1), inputs.x.size(2), inputs.b.size(2)},
                                     at::TensorOptions().dtype(at::kFloat)));
  }
  inputs.initial = at::stack(states);
  const ops::ScanOutputs outputs = ops::selective_scan(inputs, context.layout.document_starts);
  for (std::int64_t d = 0; d < documents; ++d) slots(context, layer, d)[kScan] = outputs.states[d];
  return outputs.y;
}

}  // namespace espalier::nn

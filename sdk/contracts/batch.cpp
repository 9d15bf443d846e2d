#include "espalier/sdk/batch.h"

#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>

#include "espalier/base/error.h"

namespace espalier {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  std::string text = "[";
  for (const std::int64_t size : tensor.sizes())
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

void require_shape(const at::Tensor& tensor, const char* name, std::int64_t batch,
                   std::int64_t sequence) {
  if (tensor.dim() >= 2 && tensor.size(-2) == batch && tensor.size(-1) == sequence) return;
  throw_bad_input(std::string(name) + " does not fit the input", shape_text(tensor),
                  "[" + std::to_string(batch) + ", " + std::to_string(sequence) + "]", name);
}

at::Tensor as_cpu_int64(const at::Tensor& tensor) {
  return tensor.to(at::kCPU, at::kLong).contiguous();
}

/// Marks the flat positions of [batch * seq] at which a document begins, from cu_seqlens.
std::vector<bool> starts_from_boundaries(const at::Tensor& cu_seqlens, std::int64_t batch,
                                         std::int64_t sequence) {
  const at::Tensor boundaries = as_cpu_int64(cu_seqlens);
  std::vector<bool> starts(static_cast<std::size_t>(batch * sequence), false);
  const bool per_row = boundaries.dim() == 2;
  const std::int64_t rows = per_row ? boundaries.size(0) : 1;
  const std::int64_t span = per_row ? sequence : batch * sequence;
  if (boundaries.dim() > 2 || (per_row && rows != batch)) {
    throw_bad_input("cu_seqlens does not fit the input", shape_text(boundaries),
                    "[documents + 1] or [batch, n]", "cu_seqlens");
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t* edge = boundaries.data_ptr<std::int64_t>() + row * boundaries.size(-1);
    std::int64_t last = 0;
    for (std::int64_t i = 0; i < boundaries.size(-1); ++i) {
      if (edge[i] < last || edge[i] > span || (i == 0 && edge[i] != 0)) {
        throw_bad_input("cu_seqlens is not a list of boundaries",
                        std::to_string(edge[i]) + " at place " + std::to_string(i),
                        "numbers from 0 to " + std::to_string(span) + " in rising order",
                        "cu_seqlens");
      }
      if (edge[i] < span) starts[static_cast<std::size_t>(row * span + edge[i])] = true;
      last = edge[i];
    }
  }
  return starts;
}

std::vector<bool> starts_from_positions(const at::Tensor& position_ids) {
  // Multi-axis positions (the first axis is time) restart where the first axis does.
  const at::Tensor positions =
      as_cpu_int64(position_ids.dim() > 2 ? position_ids[0] : position_ids);
  const std::int64_t* position = positions.data_ptr<std::int64_t>();
  std::vector<bool> starts(static_cast<std::size_t>(positions.numel()));
  for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = position[i] == 0;
  return starts;
}

}  // namespace

at::Tensor TokenLayout::flatten(const at::Tensor& padded) const {
  at::Tensor flat = padded.flatten(0, 1);
  return token_index.defined() ? at::index_select(flat, 0, token_index.to(flat.device())) : flat;
}

at::Tensor TokenLayout::unflatten(const at::Tensor& flat) const {
  std::vector<std::int64_t> shape(flat.sizes().begin(), flat.sizes().end());
  shape[0] = batch * sequence;
  at::Tensor padded = flat;
  if (token_index.defined())
    padded = at::zeros(shape, flat.options()).index_copy(0, token_index.to(flat.device()), flat);
  shape[0] = sequence;
  shape.insert(shape.begin(), batch);
  return padded.reshape(shape);
}

TokenLayout make_layout(const ModelInput& input) {
  const at::Tensor ids =
      input.get("input_ids").defined() ? input.get("input_ids") : input.get("inputs_embeds");
  if (!ids.defined() || ids.dim() < 2) {
    throw_bad_input("the model input has no tokens", ids.defined() ? shape_text(ids) : "nothing",
                    "input_ids of shape [batch, seq]", "input_ids");
  }
  TokenLayout layout;
  layout.batch = ids.size(0);
  layout.sequence = ids.size(1);
  const std::int64_t places = layout.batch * layout.sequence;

  const at::Tensor mask = input.get("attention_mask");
  const at::Tensor positions = input.get("position_ids");
  const at::Tensor boundaries = input.get("cu_seqlens");
  if (mask.defined()) require_shape(mask, "attention_mask", layout.batch, layout.sequence);
  if (positions.defined()) require_shape(positions, "position_ids", layout.batch, layout.sequence);

  std::vector<bool> starts(static_cast<std::size_t>(places), false);
  if (boundaries.defined()) {
    starts = starts_from_boundaries(boundaries, layout.batch, layout.sequence);
  } else if (positions.defined() && input.cache == nullptr) {
    starts = starts_from_positions(positions);
  }
  const at::Tensor mask_values = mask.defined() ? as_cpu_int64(mask) : at::Tensor();
  const std::int64_t* real = mask.defined() ? mask_values.data_ptr<std::int64_t>() : nullptr;

  std::vector<std::int64_t> index;
  index.reserve(static_cast<std::size_t>(places));
  bool in_document = false;
  for (std::int64_t place = 0; place < places; ++place) {
    if (place % layout.sequence == 0) in_document = false;
    if (real != nullptr && real[place] == 0) {
      in_document = false;
      continue;
    }
    if (!in_document || starts[static_cast<std::size_t>(place)]) {
      layout.document_starts.push_back(static_cast<std::int64_t>(index.size()));
    }
    in_document = true;
    index.push_back(place);
  }
  layout.document_starts.push_back(static_cast<std::int64_t>(index.size()));
  if (static_cast<std::int64_t>(index.size()) != places) {
    layout.token_index = at::tensor(index, at::TensorOptions().dtype(at::kLong)).to(ids.device());
  }
  return layout;
}

at::Tensor shift_labels(const TokenLayout& layout, const at::Tensor& labels) {
  require_shape(labels, "labels", layout.batch, layout.sequence);
  const at::Tensor flat = as_cpu_int64(layout.flatten(labels));
  at::Tensor shifted = at::full({layout.tokens()}, kIgnoredLabel, flat.options());
  const std::int64_t* from = flat.data_ptr<std::int64_t>();
  std::int64_t* to = shifted.data_ptr<std::int64_t>();
  for (std::int64_t document = 0; document < layout.documents(); ++document) {
    const std::size_t d = static_cast<std::size_t>(document);
    const std::int64_t begin = layout.document_starts[d];
    const std::int64_t end = layout.document_starts[d + 1];
    std::copy(from + std::min(begin + 1, end), from + end, to + begin);
  }
  return shifted.to(labels.device());
}

at::Tensor predicted_labels(const TokenLayout& layout, const at::Tensor& labels, bool shifted) {
  if (!shifted) return shift_labels(layout, labels);
  require_shape(labels, "labels", layout.batch, layout.sequence);
  return layout.flatten(labels);
}

}  // namespace espalier

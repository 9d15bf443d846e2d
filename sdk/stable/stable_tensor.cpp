#include "espalier/stable/stable_tensor.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "espalier/base/error.h"

namespace espalier::stable {
namespace {

constexpr std::size_t kMessageSize = 1024;
constexpr std::int32_t kMostDimensions = 8;

struct TypeRow {
  at::ScalarType type;
  EspalierCDataType code;
};

constexpr TypeRow kTypes[] = {
    {at::kFloat, {ESPALIER_C_FLOAT, 32, 1}}, {at::kDouble, {ESPALIER_C_FLOAT, 64, 1}},
    {at::kHalf, {ESPALIER_C_FLOAT, 16, 1}},  {at::kBFloat16, {ESPALIER_C_BFLOAT, 16, 1}},
    {at::kLong, {ESPALIER_C_INT, 64, 1}},    {at::kInt, {ESPALIER_C_INT, 32, 1}},
    {at::kShort, {ESPALIER_C_INT, 16, 1}},   {at::kChar, {ESPALIER_C_INT, 8, 1}},
    {at::kByte, {ESPALIER_C_UINT, 8, 1}},    {at::kBool, {ESPALIER_C_BOOL, 8, 1}},
};

EspalierCDataType code_of(at::ScalarType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.code;
  }
  throw Error(Problem{ErrorCode::kUnsupported,
                      "the stable interface has no such type",
                      at::toString(type),
                      {},
                      {},
                      {}});
}

at::ScalarType type_of(const EspalierCDataType& code) {
  for (const TypeRow& row : kTypes) {
    if (row.code.code == code.code && row.code.bits == code.bits && code.lanes == 1)
      return row.type;
  }
  throw Error(
      Problem{ErrorCode::kBadPlugin,
              "the plugin asks for a tensor of an unknown type",
              "code " + std::to_string(code.code) + ", " + std::to_string(code.bits) + " bits",
              "a type of DLPack",
              {},
              "see EspalierCDataType"});
}

}  // namespace

Call::Call() : message_(kMessageSize) {
  call_.struct_size = sizeof(EspalierCCall);
  call_.num_threads = at::get_num_threads();
  call_.message = message_.data();
  call_.message_size = message_.size();
}

EspalierCTensor Call::view_of(const at::Tensor& tensor) {
  EspalierCTensor view{};
  if (!tensor.defined()) return view;
  const at::Tensor dense = tensor.contiguous();
  kept_.push_back(dense);
  extents_.emplace_back(dense.sizes().begin(), dense.sizes().end());
  view.shape = extents_.back().data();
  extents_.emplace_back(dense.strides().begin(), dense.strides().end());
  view.strides = extents_.back().data();
  view.data = const_cast<void*>(dense.const_data_ptr());
  view.device = {dense.is_cuda() ? ESPALIER_C_CUDA : ESPALIER_C_CPU,
                 dense.is_cuda() ? dense.device().index() : 0};
  view.ndim = static_cast<std::int32_t>(dense.dim());
  view.dtype = code_of(dense.scalar_type());
  return view;
}

void Call::set_inputs(const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& tensor : tensors) inputs_.push_back(view_of(tensor));
  call_.inputs = inputs_.data();
  call_.num_inputs = inputs_.size();
}

void Call::set_outputs(const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& tensor : tensors) outputs_.push_back(view_of(tensor));
  call_.outputs = outputs_.data();
  call_.num_outputs = outputs_.size();
}

void Call::set_attributes(const ops::OpAttributes& attributes) {
  std::copy(attributes.numbers.begin(), attributes.numbers.end(), call_.numbers);
  std::copy(attributes.integers.begin(), attributes.integers.end(), call_.integers);
}

void Call::set_workspace(std::size_t bytes) {
  if (bytes == 0) return;
  const at::Device device = kept_.empty() ? at::Device(at::kCPU) : kept_.front().device();
  const at::Tensor room =
      at::empty({static_cast<std::int64_t>(bytes)}, at::TensorOptions(at::kByte).device(device));
  kept_.push_back(room);
  call_.workspace = room.mutable_data_ptr();
  call_.workspace_bytes = bytes;
}

void Call::require_success(std::int32_t code, const std::string& what) const {
  if (code == ESPALIER_C_OK) return;
  const ErrorCode kind = code == ESPALIER_C_BAD_INPUT     ? ErrorCode::kBadInput
                         : code == ESPALIER_C_UNSUPPORTED ? ErrorCode::kUnsupported
                                                          : ErrorCode::kBadPlugin;
  throw Error(Problem{kind, what + " failed", std::string(message_.data()), {}, {}, {}});
}

at::Tensor allocate(const EspalierCShape& shape, const at::Device& device) {
  if (shape.ndim < 0 || shape.ndim > kMostDimensions)
    throw Error(Problem{ErrorCode::kBadPlugin,
                        "the plugin asks for a tensor of an impossible rank",
                        std::to_string(shape.ndim),
                        "0 to 8 dimensions",
                        {},
                        {}});
  return at::empty(at::IntArrayRef(shape.sizes, static_cast<std::size_t>(shape.ndim)),
                   at::TensorOptions(type_of(shape.dtype)).device(device));
}

}  // namespace espalier::stable

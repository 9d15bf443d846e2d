#include "espalier/io/tensor_io.h"

#include <ATen/ops/empty.h>

#include <array>
#include <utility>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 17> kTypes = {{
    {DType::kBool, at::kBool},
    {DType::kU8, at::kByte},
    {DType::kI8, at::kChar},
    {DType::kF8E5M2, at::kFloat8_e5m2},
    {DType::kF8E4M3, at::kFloat8_e4m3fn},
    {DType::kF8E8M0, at::kFloat8_e8m0fnu},
    {DType::kI16, at::kShort},
    {DType::kU16, at::kUInt16},
    {DType::kF16, at::kHalf},
    {DType::kBF16, at::kBFloat16},
    {DType::kI32, at::kInt},
    {DType::kU32, at::kUInt32},
    {DType::kF32, at::kFloat},
    {DType::kC64, at::kComplexFloat},
    {DType::kF64, at::kDouble},
    {DType::kI64, at::kLong},
    {DType::kU64, at::kUInt64},
}};

}  // namespace

at::ScalarType scalar_type_of(DType dtype) {
  for (const auto& [file_type, type] : kTypes) {
    if (file_type == dtype) return type;
  }
  throw Error(Problem{ErrorCode::kUnsupported,
                      "tensors of this type can't be computed with",
                      std::string(dtype_name(dtype)),
                      {},
                      {},
                      {}});
}

DType dtype_of(at::ScalarType type) {
  for (const auto& [file_type, tensor_type] : kTypes) {
    if (tensor_type == type) return file_type;
  }
  throw Error(Problem{ErrorCode::kUnsupported,
                      "tensors of this type can't be stored",
                      c10::toString(type),
                      {},
                      {},
                      {}});
}

at::ScalarType scalar_type_from_name(const std::string& name) {
  if (const std::optional<DType> dtype = dtype_from_config_name(name))
    return scalar_type_of(*dtype);
  throw_bad_input("unknown dtype", name, "float32, bfloat16 or float16", {});
}

std::string scalar_type_name(at::ScalarType type) {
  return std::string(dtype_config_name(dtype_of(type)));
}

at::Tensor read_tensor(const TensorFile& file, std::string_view name) {
  const TensorInfo& info = file.at(name);
  at::Tensor tensor = at::empty(info.shape, at::TensorOptions().dtype(scalar_type_of(info.dtype)));
  file.read_bytes(name, 0, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()});
  return tensor;
}

std::map<std::string, at::Tensor> read_tensors(const std::string& path) {
  const SafetensorsFile file(path);
  std::map<std::string, at::Tensor> tensors;
  for (const TensorInfo& info : file.tensors())
    tensors.emplace(info.name, read_tensor(file, info.name));
  return tensors;
}

TensorSource tensor_source(const std::string& name, const at::Tensor& tensor) {
  TensorSource source;
  source.name = name;
  source.dtype = dtype_of(tensor.scalar_type());
  source.shape.assign(tensor.sizes().begin(), tensor.sizes().end());
  source.write = [held = tensor.detach()](const TensorSink& sink) {
    const at::Tensor packed = held.to(at::kCPU).contiguous();
    sink({static_cast<const std::byte*>(packed.const_data_ptr()), packed.nbytes()});
  };
  return source;
}

void write_tensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                   const TensorMetadata& metadata) {
  std::vector<TensorSource> sources;
  sources.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) sources.push_back(tensor_source(name, tensor));
  write_safetensors(path, sources, metadata);
}

}  // namespace espalier

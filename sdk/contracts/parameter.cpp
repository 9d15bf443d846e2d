#include "espalier/sdk/parameter.h"

#include <ATen/ops/empty.h>

#include <utility>

#include "espalier/base/error.h"

namespace espalier {

Parameter::Parameter(ParameterSpec spec)
    : spec_(std::move(spec)),
      value_(at::empty(spec_.shape(), at::TensorOptions().device(at::kMeta).dtype(at::kFloat))),
      trainable_(!spec_.buffer) {}

void Parameter::set_value(at::Tensor value) {
  value_ = std::move(value);
  view_ = at::Tensor();
  if (at::isFloatingType(value_.scalar_type())) value_.set_requires_grad(trainable_);
}

void Parameter::set_trainable(bool trainable) {
  trainable_ = trainable && !spec_.buffer;
  if (at::isFloatingType(value_.scalar_type())) value_.set_requires_grad(trainable_);
}

DiskMapping identity_mapping(const ParameterSpec& spec, bool transposed) {
  DiskTensor part;
  part.name = spec.name;
  part.extent = spec.shape();
  part.offset.assign(part.extent.size(), 0);
  for (std::size_t i = 0; i < part.extent.size(); ++i)
    part.dimensions.push_back(static_cast<std::int64_t>(i));
  if (transposed) std::swap(part.dimensions.at(0), part.dimensions.at(1));
  return {spec.name, {std::move(part)}};
}

DiskMapping stacked_mapping(const ParameterSpec& spec, const std::vector<std::string>& names) {
  const std::vector<std::int64_t> shape = spec.shape();
  ESPALIER_ASSERT(!shape.empty() && shape[0] == static_cast<std::int64_t>(names.size()),
                  "one name for each index of the first dimension");
  DiskMapping mapping{spec.name, {}};
  for (std::size_t i = 0; i < names.size(); ++i) {
    DiskTensor part;
    part.name = names[i];
    part.offset.assign(shape.size(), 0);
    part.offset[0] = static_cast<std::int64_t>(i);
    part.extent = shape;
    part.extent[0] = 1;
    for (std::size_t d = 1; d < shape.size(); ++d)
      part.dimensions.push_back(static_cast<std::int64_t>(d));
    mapping.parts.push_back(std::move(part));
  }
  return mapping;
}

}  // namespace espalier

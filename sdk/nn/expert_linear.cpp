#include "espalier/nn/expert_linear.h"

#include <utility>

#include "espalier/ops/grouped_linear.h"

namespace espalier::nn {
namespace {

/// All experts in one tensor [experts, in, out].
DiskMapping fused_mapping(const ParameterSpec& spec) {
  DiskMapping mapping = identity_mapping(spec);
  mapping.parts[0].dimensions = {0, 2, 1};
  return mapping;
}

/// Tensors [out / parts, in], one an expert and part.
DiskMapping expert_mapping(const ParameterSpec& spec, const std::vector<std::string>& names) {
  const std::vector<std::int64_t> shape = spec.shape();
  const std::int64_t rows = shape[1] / static_cast<std::int64_t>(names.size());
  DiskMapping mapping{spec.name, {}};
  for (std::int64_t expert = 0; expert < shape[0]; ++expert) {
    std::int64_t row = 0;
    for (std::string name : names) {
      name.replace(name.find("{}"), 2, std::to_string(expert));
      mapping.parts.push_back({std::move(name), {1, 2}, {expert, row, 0}, {1, rows, shape[2]}, {}});
      row += rows;
    }
  }
  return mapping;
}

}  // namespace

ExpertLinearExtension::~ExpertLinearExtension() = default;

ExpertLinear::ExpertLinear(ModuleScope scope, const ExpertLinearSpec& spec)
    : name_(scope.prefix()) {
  ParameterSpec weight{name_,
                       {spec.experts, spec.out, spec.in},
                       {Initialisation::Kind::kNormal, spec.initial_standard_deviation}};
  DiskMapping mapping =
      spec.disk_names.empty() ? fused_mapping(weight) : expert_mapping(weight, spec.disk_names);
  weight_ = scope.parameter(weight, std::move(mapping));
  if (spec.bias) {
    ParameterSpec bias{name_ + "_bias", {spec.experts, spec.out}, {}};
    DiskMapping bias_mapping = identity_mapping(bias);
    bias_ = scope.parameter(bias, std::move(bias_mapping));
  }
  scope.parts().expert_linears.push_back(this);
}

at::Tensor ExpertLinear::forward(const at::Tensor& input, const at::Tensor& offsets) const {
  at::Tensor output = ops::grouped_linear(input, weight_->computed(),
                                          bias_ ? bias_->computed() : at::Tensor(), offsets);
  for (const auto& extension : extensions_)
    output = extension->apply(*this, input, offsets, std::move(output));
  return output;
}

}  // namespace espalier::nn

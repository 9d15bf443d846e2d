#include "lora_experts.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <string_view>

#include "espalier/base/error.h"
#include "espalier/io/tensor_io.h"
#include "espalier/ops/grouped_linear.h"
#include "espalier/peft/adapter_files.h"
#include "lora_module.h"

namespace espalier::lora {
namespace {

/// "model.layers.0.mlp.experts" of "model.layers.0.mlp.experts.down_proj".
std::string module_of(const std::string& name) { return name.substr(0, name.rfind('.')); }

/// The name that PEFT knows the projection by: transformers calls every block of experts `mlp` once
/// it is loaded, also where checkpoints have another word.
std::string peft_name(const nn::ExpertLinear& linear) {
  constexpr std::string_view kOnDisk = ".block_sparse_moe.";
  std::string name = linear.name();
  if (const std::size_t at = name.find(kOnDisk); at != std::string::npos)
    name.replace(at, kOnDisk.size(), ".mlp.");
  return name;
}

bool is_target(const std::string& target, const nn::ExpertLinear& linear) {
  return is_named(target, linear.name()) || is_named(target, peft_name(linear));
}

void check_settings(const LoraSettings& settings) {
  const auto refuse = [](const char* what, const char* key) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        what,
                        {},
                        {},
                        std::string("peft.") + key,
                        "leave it out, or leave target_parameters out"});
  };
  if (settings.use_dora) refuse("magnitudes are for linears, not for experts", "use_dora");
  if (settings.dropout > 0) refuse("dropout is for linears, not for experts", "dropout");
}

}  // namespace

LoraExperts::LoraExperts(nn::ExpertLinear& linear, const LoraSettings& settings, std::size_t depth,
                         std::shared_ptr<const AdapterState> state)
    : linear_(linear),
      state_(std::move(state)),
      experts_(linear.weight()->spec().dimensions[0].size()),
      scale_(settings.scale_of(linear.name())) {
  const std::vector<Dimension>& shape = linear.weight()->spec().dimensions;
  const Dimension ranks{{{"lora_rank", experts_ * settings.rank_of(name()), 1}}};
  std::string prefix = peft::kTensorPrefix + module_of(peft_name(linear));
  for (std::size_t i = 0; i < depth; ++i) prefix += ".base_layer";
  a_ = std::make_shared<Parameter>(ParameterSpec{prefix + ".lora_A.weight", {ranks, shape[2]}, {}});
  b_ = std::make_shared<Parameter>(ParameterSpec{prefix + ".lora_B.weight", {shape[1], ranks}, {}});
}

at::Tensor LoraExperts::a_of_experts() const {
  const at::Tensor& a = a_->computed();
  return a.view({experts_, -1, a.size(1)});
}

at::Tensor LoraExperts::b_of_experts() const {
  const at::Tensor& b = b_->computed();
  return b.view({b.size(0), -1, experts_}).permute({2, 0, 1});
}

at::Tensor LoraExperts::apply(const nn::ExpertLinear&, const at::Tensor& input,
                              const at::Tensor& offsets, at::Tensor output) {
  if (!state_->enabled) return output;
  if (offsets.numel() != experts_ + 1) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "updates of experts can't be used where ranks hold some of the experts",
                        std::to_string(offsets.numel() - 1) + " experts", std::to_string(experts_),
                        "[distributed]",
                        "leave out the parallelism over experts, or target_parameters"});
  }
  const at::ScalarType dtype = input.scalar_type();
  const at::Tensor inner = ops::grouped_linear(input, a_of_experts().to(dtype), {}, offsets);
  return output +
         ops::grouped_linear(inner, b_of_experts().contiguous().to(dtype), {}, offsets) * scale_;
}

void LoraExperts::initialise(const LoraSettings& settings, std::uint64_t seed) {
  const at::ScalarType dtype = scalar_type_from_name(settings.dtype);
  a_->set_value(start_of_a(*a_, settings.init, seed).to(dtype));
  b_->set_value(at::zeros(b_->spec().shape(), dtype));
}

void LoraExperts::merge(double sign) const {
  const at::NoGradGuard no_grad;
  const at::Tensor update =
      at::bmm(b_of_experts().to(at::kFloat), a_of_experts().to(at::kFloat)) * (sign * scale_);
  const at::Tensor value = linear_.weight()->value().detach();
  linear_.weight()->set_value((value.to(at::kFloat) + update).to(value.scalar_type()));
}

std::vector<std::shared_ptr<LoraExperts>> extend_experts(
    Model& model, const LoraSettings& settings, const std::shared_ptr<const AdapterState>& state) {
  if (settings.target_parameters.empty()) return {};
  check_settings(settings);
  std::vector<nn::ExpertLinear*> chosen;
  std::vector<std::string> names;
  for (nn::ExpertLinear* linear : model.parts().expert_linears) {
    names.push_back(linear->name());
    if (std::any_of(settings.target_parameters.begin(), settings.target_parameters.end(),
                    [&](const auto& target) { return is_target(target, *linear); }))
      chosen.push_back(linear);
  }
  ProblemList problems;
  for (const std::string& target : settings.target_parameters) {
    if (std::any_of(chosen.begin(), chosen.end(),
                    [&](const auto* linear) { return is_target(target, *linear); }))
      continue;
    problems.add({ErrorCode::kBadInput, "a name matches no projection of experts", target,
                  "the end of a name, such as experts.down_proj", "peft.target_parameters",
                  names.empty() ? "the model has no experts" : nearest_modules(target, names)});
  }
  std::vector<std::shared_ptr<LoraExperts>> modules;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    nn::ExpertLinear& linear = *chosen[i];
    const std::vector<std::int64_t> shape = linear.weight()->spec().shape();
    if (settings.rank_of(linear.name()) > std::min(shape[1], shape[2]))
      problems.add({ErrorCode::kBadInput,
                    "the rank is larger than the layer '" + linear.name() + "'",
                    std::to_string(settings.rank_of(linear.name())),
                    "at most " + std::to_string(std::min(shape[1], shape[2])), "peft.dim",
                    "lower it, or give this layer a rank of its own in rank_pattern"});
    const auto depth = static_cast<std::size_t>(
        std::count_if(chosen.begin() + static_cast<std::ptrdiff_t>(i) + 1, chosen.end(),
                      [&](const nn::ExpertLinear* other) {
                        return module_of(other->name()) == module_of(linear.name());
                      }));
    modules.push_back(std::make_shared<LoraExperts>(linear, settings, depth, state));
  }
  problems.throw_if_any();
  for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i]->add_extension(modules[i]);
  return modules;
}

}  // namespace espalier::lora

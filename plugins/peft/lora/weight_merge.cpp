#include "weight_merge.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linalg_svd.h>

#include <cmath>
#include <map>

#include "espalier/base/error.h"

namespace espalier::lora {
namespace {

[[noreturn]] void unsupported(std::string what, std::string where, std::string hint) {
  throw Error(
      Problem{ErrorCode::kUnsupported, std::move(what), {}, {}, std::move(where), std::move(hint)});
}

/// A weight that several modules share holds one value: a change of one of them has no place.
void check_ties(Model& model, const Parameter& weight, const std::string& changed) {
  for (const Target& target : targets_of(model)) {
    const Parameter* used =
        target.linear != nullptr ? target.linear->weight().get() : target.embedding->weight().get();
    if (used == &weight && target.name != changed)
      unsupported(
          "the adapter changes '" + changed + "', whose weight is tied with '" + target.name + "'",
          weight.name(),
          "use the adapter beside its base model (--adapter), or untie the weights of the "
          "base");
  }
}

void check_dense(const LoraModule& module) {
  const at::Tensor& value = module.weight()->value();
  if (value.is_meta() || !at::isFloatingType(value.scalar_type()))
    unsupported("the weight of '" + module.name() + "' is quantised and can't hold the update",
                module.name(), "merge into the unquantised model");
}

double squared_norm(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).square().sum().item<double>();
}

}  // namespace

void merge_into(Model& model, const Modules& modules, const Replacements& replacements) {
  const at::NoGradGuard no_grad;
  for (const auto& module : modules) {
    check_dense(*module);
    check_ties(model, *module->weight(), module->name());
  }
  for (const Replacement& replacement : replacements) {
    // A module that switches by itself is named like its copy, less prefix and ".weight".
    const std::string name = replacement.copy->name().substr(std::string(kTensorPrefix).size());
    if (!replacement.substitutes)
      check_ties(model, *replacement.base, name.substr(0, name.rfind('.')));
  }
  for (const auto& module : modules)
    module->weight()->set_value(module->to_weight(module->merged(module->matrix())));
  for (const Replacement& replacement : replacements) {
    const at::ScalarType dtype = replacement.base->value().scalar_type();
    replacement.base->set_value(replacement.copy->value().detach().to(dtype).clone());
  }
}

void unmerge_from(Model& model, const Modules& modules, const Replacements& replacements,
                  const std::set<std::string>& restored) {
  const at::NoGradGuard no_grad;
  if (!replacements.empty())
    unsupported("the adapter replaced '" + replacements.front().base->name() +
                    "': what was there before is not known",
                replacements.front().copy->name(), "start from the base model");
  for (const auto& module : modules) {
    check_dense(*module);
    check_ties(model, *module->weight(), module->name());
    if (module->has_magnitude())
      unsupported("merging a magnitude can't be undone: the norms of the base are not known",
                  module->name(), "start from the base model");
  }
  for (const auto& module : modules) {
    if (restored.contains(module->name())) continue;
    const at::Tensor a = module->a()->computed().to(at::kFloat);
    const at::Tensor b = module->b()->computed().to(at::kFloat);
    const at::Tensor base = at::addmm(module->matrix(), b, a, 1, -module->scale());
    module->weight()->set_value(module->to_weight(base));
  }
}

double extract_difference(Model& model, Model& tuned, const Modules& modules,
                          const Replacements& replacements) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> values;
  for (const auto& parameter : tuned.parts().parameters)
    values.emplace(parameter->name(), parameter->value().detach().to(at::kFloat));
  std::map<std::string, double> left_over;  // squared, by parameter
  double all = 0;
  for (const auto& parameter : model.parts().parameters) {
    const auto found = values.find(parameter->name());
    if (found == values.end() || found->second.sizes() != parameter->value().sizes())
      throw_bad_input("the two models are of different architectures", parameter->name(),
                      "a parameter of the same shape in both", "--model");
    const double difference = squared_norm(found->second - parameter->value());
    all += difference;
    left_over[parameter->name()] = difference;
  }
  for (const auto& module : modules) {
    const at::Tensor difference =
        module->to_matrix(values.at(module->weight()->name())) - module->matrix();
    const auto [u, s, vh] = at::linalg_svd(difference, /*full_matrices=*/false);
    const std::int64_t rank = module->a()->spec().dimensions[0].size();
    const at::Tensor root = s.narrow(0, 0, rank).sqrt();
    const double part = 1.0 / std::sqrt(module->scale());
    module->b()->set_value((u.narrow(1, 0, rank) * root * part).contiguous());
    module->a()->set_value((vh.narrow(0, 0, rank) * root.unsqueeze(-1) * part).contiguous());
    left_over[module->weight()->name()] = squared_norm(s.narrow(0, rank, s.size(0) - rank));
  }
  for (const Replacement& replacement : replacements) {
    const at::Tensor& value = values.at(replacement.base->name());
    left_over[replacement.base->name()] = 0;
    replacement.copy->set_value(value.to(replacement.copy->value().scalar_type()).clone());
  }
  double rest = 0;
  for (const auto& [name, squared] : left_over) rest += squared;
  return all > 0 ? std::sqrt(rest / all) : 0.0;
}

}  // namespace espalier::lora

#include "espalier/nn/moe.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <utility>

namespace espalier::nn {
namespace {

// Tensors that travel with the hidden states, so that a block that is computed again or elsewhere
// hands them on like any other.
constexpr const char* kProbabilities = "router_probabilities";  // [experts], summed, with gradient
constexpr const char* kLoads = "expert_loads";  // [layers so far, experts], tokens of each

template <class Carried>
auto find(Carried& carried, const char* name) -> decltype(&carried.front().second) {
  const auto found = std::find_if(carried.begin(), carried.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  return found == carried.end() ? nullptr : &found->second;
}

void record_routing(CarriedTensors& carried, const Routing& routing, bool balanced) {
  const std::int64_t experts = routing.logits.size(1);
  const at::Tensor load =
      at::bincount(routing.experts.flatten(), {}, experts).to(at::kFloat).unsqueeze(0);
  if (at::Tensor* loads = find(carried, kLoads)) {
    *loads = at::cat({*loads, load});
  } else {
    carried.emplace_back(kLoads, load);
  }
  if (!balanced) return;
  const at::Tensor sum = at::softmax(routing.logits, -1).to(at::kFloat).sum(0);
  if (at::Tensor* probabilities = find(carried, kProbabilities)) {
    *probabilities = *probabilities + sum;
  } else {
    carried.emplace_back(kProbabilities, sum);
  }
}

/// Names on disk of the shares of one expert projection, "<experts>.{}.gate_proj.weight".
std::vector<std::string> disk_names(const ModuleScope& scope, const MoeSpec& moe,
                                    const std::vector<std::string>& projections) {
  std::vector<std::string> names;
  if (moe.fused_on_disk) return names;
  names.reserve(projections.size());
  for (const std::string& projection : projections)
    names.push_back(scope.qualified(moe.names.experts) + ".{}." + projection + ".weight");
  return names;
}

std::unique_ptr<Mlp> make_shared_mlp(const ModuleScope& scope, const DecoderSpec& spec,
                                     const MoeSpec& moe) {
  DecoderSpec shared = spec;
  shared.intermediate_size = moe.shared_intermediate_size;
  const auto below = [&](const std::string& name) {
    return name.empty() ? name : moe.names.shared + "." + name;
  };
  shared.names.gate = below(moe.names.gate);
  shared.names.up = below(moe.names.up);
  shared.names.down = below(moe.names.down);
  return std::make_unique<Mlp>(scope, shared);
}

at::Tensor clamped_swiglu(const at::Tensor& gate, const at::Tensor& up, const ClampedSwiglu& how) {
  const at::Tensor g = gate.clamp_max(how.limit);
  const at::Tensor u = up.clamp(-how.limit, how.limit);
  return (u + 1) * (g * at::sigmoid(g * how.alpha));
}

}  // namespace

MoeMlp::MoeMlp(const ModuleScope& scope, const DecoderSpec& spec, const MoeSpec& moe)
    : activation_(spec.activation),
      clamped_(moe.clamped),
      gated_(!moe.names.gate.empty()),
      balanced_(moe.auxiliary_weight != 0),
      dispatcher_(std::make_shared<LocalDispatcher>()) {
  const double deviation = spec.initializer_range;
  router_ = std::make_unique<Router>(scope.child(moe.names.router), moe.router, spec.hidden_size,
                                     deviation);
  const Dimension embed{{{"embed", spec.hidden_size, 1}}};
  const Dimension space = moe.latent_size > 0 ? Dimension{{{"latent", moe.latent_size, 1}}} : embed;
  if (moe.latent_size > 0) {
    latent_in_ =
        std::make_unique<Linear>(scope.child(moe.names.latent_in),
                                 LinearSpec{space, embed, spec.mlp_bias, false, deviation});
  }
  const Dimension experts{{{"experts", moe.router.num_experts, 1}}};
  const Dimension inner{{{"mlp", moe.intermediate_size, 1}}};
  Dimension up = inner;
  if (gated_) up.segments.push_back(inner.segments[0]);
  // Gate and up take turns in a fused tensor: a pair of rows belongs together.
  if (gated_ && moe.fused_on_disk) up = {{{"mlp", 2 * moe.intermediate_size, 2}}};
  const std::string up_name = gated_ ? "gate_up_proj" : moe.names.up;
  const std::vector<std::string> up_parts =
      gated_ ? std::vector<std::string>{moe.names.gate, moe.names.up}
             : std::vector<std::string>{moe.names.up};
  const ModuleScope below = scope.child(moe.names.experts);
  up_ = std::make_unique<ExpertLinear>(
      below.child(up_name),
      ExpertLinearSpec{experts, up, space, moe.bias, disk_names(scope, moe, up_parts), deviation});
  down_ = std::make_unique<ExpertLinear>(
      below.child("down_proj"),
      ExpertLinearSpec{experts, space, inner, moe.bias, disk_names(scope, moe, {moe.names.down}),
                       deviation});
  if (moe.latent_size > 0) {
    latent_out_ =
        std::make_unique<Linear>(scope.child(moe.names.latent_out),
                                 LinearSpec{embed, space, spec.mlp_bias, false, deviation});
  }
  if (moe.shared_intermediate_size > 0) shared_ = make_shared_mlp(scope, spec, moe);
  if (moe.shared_gate) {
    shared_gate_ =
        std::make_unique<Linear>(scope.child(moe.names.shared_gate),
                                 LinearSpec{{{{"", 1, 1}}}, embed, false, false, deviation});
  }
  ModuleScope owner = scope;
  owner.parts().expert_dispatchers.emplace_back(below.prefix(), &dispatcher_);
}

at::Tensor MoeMlp::run_experts(const at::Tensor& rows, const at::Tensor& offsets) const {
  const at::Tensor up = up_->forward(rows, offsets);  // [rows, inner], or [rows, 2 * inner]
  if (!gated_) return down_->forward(ops::activate(up, activation_), offsets);
  if (clamped_) {
    const at::Tensor pairs = up.unflatten(-1, {-1, 2});
    return down_->forward(clamped_swiglu(pairs.select(-1, 0), pairs.select(-1, 1), *clamped_),
                          offsets);
  }
  const std::int64_t inner = up.size(-1) / 2;
  const at::Tensor mixed =
      ops::gated_activation(up.narrow(-1, 0, inner), up.narrow(-1, inner, inner), activation_);
  return down_->forward(mixed, offsets);
}

at::Tensor MoeMlp::forward(const at::Tensor& hidden, const BatchContext& context,
                           CarriedTensors& carried) {
  const Routing routing = router_->route(hidden);
  if (context.training) record_routing(carried, routing, balanced_);
  at::Tensor mixed = dispatcher_->run(latent_in_ ? latent_in_->forward(hidden) : hidden, routing,
                                      router_->spec().num_experts,
                                      [this](const at::Tensor& rows, const at::Tensor& offsets) {
                                        return run_experts(rows, offsets);
                                      });
  if (latent_out_) mixed = latent_out_->forward(mixed);
  if (!shared_) return mixed;
  const at::Tensor shared = shared_->forward(hidden, context, carried);
  if (!shared_gate_) return mixed + shared;
  return mixed + at::sigmoid(shared_gate_->forward(hidden)) * shared;
}

std::vector<AuxiliaryTerm> routing_terms(const CarriedTensors& carried, const MoeSpec& moe,
                                         std::int64_t tokens) {
  const at::Tensor* loads = find(carried, kLoads);
  if (loads == nullptr || tokens == 0) return {};
  std::vector<AuxiliaryTerm> terms;
  const double rows = static_cast<double>(tokens * loads->size(0));  // every layer sees each token
  if (const at::Tensor* probabilities = find(carried, kProbabilities)) {
    const at::Tensor balance = (loads->sum(0) / rows * (*probabilities / rows)).sum();
    terms.push_back({"aux_loss", balance * loads->size(1), moe.auxiliary_weight});
  }
  const double mean = static_cast<double>(tokens * moe.router.num_experts_per_tok) /
                      static_cast<double>(loads->size(1));
  terms.push_back({"expert_load_max", loads->max() / mean, 0.0});
  terms.push_back({"experts_idle", loads->eq(0).to(at::kFloat).mean(), 0.0});
  return terms;
}

DecoderParts parts_with_experts(MoeSpec moe) {
  const auto shared = std::make_shared<const MoeSpec>(std::move(moe));
  DecoderParts parts;
  parts.mlp = [shared](const ModuleScope& scope, const DecoderSpec& spec,
                       std::int64_t layer) -> std::unique_ptr<Mixer> {
    if (!shared->serves(layer)) return std::make_unique<Mlp>(scope, spec);
    return std::make_unique<MoeMlp>(scope, spec, *shared);
  };
  parts.auxiliary = [shared](const BlockState& state, const BatchContext& context) {
    return routing_terms(state.carried, *shared, context.rows);
  };
  return parts;
}

}  // namespace espalier::nn

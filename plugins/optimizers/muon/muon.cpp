// Muon (Jordan et al. 2024), as torch.optim.Muon: steps of hidden matrices along their momentum
// made orthogonal. Embeddings, the output head, biases and norms are updated by AdamW. State: one
// tensor for a matrix, two otherwise.
#include <ATen/TensorOperators.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"
#include "orthogonal.h"

namespace espalier {
namespace {

struct MuonConfig {
  double lr = 1e-3;
  double weight_decay = 0.1;
  double momentum = 0.95;
  bool nesterov = true;
  std::vector<double> ns_coefficients{3.4445, -4.7750, 2.0315};
  std::int64_t ns_steps = 5;
  std::string ns_dtype = "auto";
  double eps = 1e-7;
  std::string adjust_lr_fn = "original";
  double adamw_lr = 3e-4;
  std::vector<double> adamw_betas{0.9, 0.95};
  double adamw_eps = 1e-8;
  std::vector<std::string> adamw_patterns;
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<MuonConfig> schema() {
    return ConfigSchema<MuonConfig>()
        .field("lr", &MuonConfig::lr, "learning rate of matrices before the schedule")
        .more_than(0)
        .field("weight_decay", &MuonConfig::weight_decay, "decoupled weight decay, also of AdamW")
        .at_least(0)
        .field("momentum", &MuonConfig::momentum, "decay rate of the momentum")
        .at_least(0)
        .less_than(1)
        .field("nesterov", &MuonConfig::nesterov, "look ahead of the momentum")
        .field("ns_coefficients", &MuonConfig::ns_coefficients,
               "coefficients of the Newton-Schulz iteration")
        .length(3)
        .field("ns_steps", &MuonConfig::ns_steps, "its steps")
        .at_least(1)
        .less_than(100)
        .field("ns_dtype", &MuonConfig::ns_dtype,
               "dtype it computes in; auto: bfloat16 on GPUs, float32 on CPUs")
        .one_of({"auto", "bfloat16", "float32"})
        .field("eps", &MuonConfig::eps, "least norm that a matrix is divided by")
        .more_than(0)
        .field("adjust_lr_fn", &MuonConfig::adjust_lr_fn,
               "factor on the learning rate by the shape [A, B] of a matrix: original "
               "sqrt(max(1, A / B)), match_rms_adamw 0.2 sqrt(max(A, B)), spectral_unclamped "
               "sqrt(A / B)")
        .one_of({"original", "match_rms_adamw", "spectral_unclamped"})
        .field("adamw_lr", &MuonConfig::adamw_lr,
               "learning rate of the parameters that AdamW updates; the schedule holds for it too")
        .at_least(0)
        .field("adamw_betas", &MuonConfig::adamw_betas, "betas of AdamW")
        .length(2)
        .at_least(0)
        .less_than(1)
        .field("adamw_eps", &MuonConfig::adamw_eps, "eps of AdamW")
        .at_least(0)
        .field("adamw_patterns", &MuonConfig::adamw_patterns,
               "further parameters that AdamW updates, by names with '*' and '?'")
        .field("param_groups", &MuonConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

/// The axes that rows of a table or scores of a head run along.
bool is_table(const ParameterSpec& parameter) {
  constexpr std::array kAxes = {"vocab", "positions", "labels"};
  return std::any_of(
      parameter.dimensions.begin(), parameter.dimensions.end(), [&](const Dimension& dimension) {
        return std::any_of(
            dimension.segments.begin(), dimension.segments.end(), [&](const AxisSegment& segment) {
              return std::find(kAxes.begin(), kAxes.end(), segment.axis) != kAxes.end();
            });
      });
}

class Muon final : public Optimizer {
 public:
  using Config = MuonConfig;
  explicit Muon(MuonConfig config) : config_(std::move(config)) {}

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  OptimizerNeed need() const override { return OptimizerNeed::kWhole; }
  OptimizerNeed need_of(const ParameterSpec& parameter) const override {
    return is_matrix(parameter) ? OptimizerNeed::kWhole : OptimizerNeed::kElements;
  }

  std::vector<OptimizerStateSpec> state_specs() const override {
    return {{"momentum_buffer"}, {"exp_avg"}, {"exp_avg_sq"}};
  }
  OptimizerStateSpec state_of(const OptimizerStateSpec& spec,
                              const ParameterSpec& parameter) const override {
    OptimizerStateSpec own = spec;
    if ((spec.name == "momentum_buffer") != is_matrix(parameter))
      own.layout = OptimizerStateSpec::Layout::kNone;
    return own;
  }

  void update(OptimizerUpdate& update) override {
    OptimizerUpdate others;
    others.states.resize(2);
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      if (is_matrix(*update.specs[i])) {
        update_matrix(update, i);
        continue;
      }
      others.parameters.push_back(update.parameters[i]);
      others.gradients.push_back(update.gradients[i]);
      others.states[0].push_back(update.states[1][i]);
      others.states[1].push_back(update.states[2][i]);
    }
    if (!others.parameters.empty()) update_others(update, others);
  }

 private:
  /// [out, in], or [experts, out, in] as so many matrices.
  bool is_matrix(const ParameterSpec& parameter) const {
    const std::size_t rank = parameter.dimensions.size();
    const bool stacked = rank == 3 && parameter.dimensions[0].segments[0].axis == "experts";
    if ((rank != 2 && !stacked) || is_table(parameter)) return false;
    return std::none_of(config_.adamw_patterns.begin(), config_.adamw_patterns.end(),
                        [&](const std::string& pattern) {
                          return ::fnmatch(pattern.c_str(), parameter.name.c_str(), 0) == 0;
                        });
  }

  double shape_factor(const at::Tensor& matrix) const {
    const auto rows = static_cast<double>(matrix.size(-2));
    const auto columns = static_cast<double>(matrix.size(-1));
    if (config_.adjust_lr_fn == "original") return std::sqrt(std::max(1.0, rows / columns));
    if (config_.adjust_lr_fn == "match_rms_adamw") return 0.2 * std::sqrt(std::max(rows, columns));
    return std::sqrt(rows / columns);
  }

  void update_matrix(OptimizerUpdate& update, std::size_t i) const {
    const at::Tensor& parameter = update.parameters[i];
    if (parameter.numel() == 0) return;
    const at::Tensor& momentum = update.states[0][i];
    momentum.lerp_(update.gradients[i], 1 - config_.momentum);
    NewtonSchulz options{config_.ns_coefficients, config_.ns_steps, config_.eps, at::kFloat};
    if (config_.ns_dtype == "bfloat16" || (config_.ns_dtype == "auto" && !parameter.is_cpu()))
      options.dtype = at::kBFloat16;
    const at::Tensor step = orthogonalised(
        config_.nesterov ? update.gradients[i].lerp(momentum, config_.momentum) : momentum,
        options);
    parameter.mul_(1 - update.lr * update.weight_decay);
    parameter.sub_(step, update.lr * shape_factor(parameter));
  }

  void update_others(const OptimizerUpdate& update, OptimizerUpdate& others) const {
    const at::Tensor step = at::full({}, static_cast<double>(update.step),
                                     others.parameters[0].options().dtype(at::kFloat));
    at::_fused_adamw_(others.parameters, others.gradients, others.states[0], others.states[1], {},
                      std::vector<at::Tensor>(others.parameters.size(), step),
                      update.lr / config_.lr * config_.adamw_lr, config_.adamw_betas[0],
                      config_.adamw_betas[1], update.weight_decay, config_.adamw_eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }

  MuonConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Optimizer, Muon>("muon",
                            "orthogonal steps for hidden matrices, AdamW for the rest (Muon)")
      .alias("torch.optim.Muon");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.muon", "0.1.0", espalier::register_components)

// AdamW whose moments are 8-bit codes, a quarter of the memory of float32 state: for each parameter
// two bytes an element and two scales a block. Small parameters keep float32 moments. The moments
// of a million elements at a time are decoded.
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "block_code.h"
#include "espalier/base/error.h"
#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

constexpr std::int64_t kElementsAtOnce = 1 << 20;

struct AdamW8bitConfig {
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;
  std::int64_t block_size = 256;
  std::int64_t min_8bit_size = 4096;
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<AdamW8bitConfig> schema() {
    return ConfigSchema<AdamW8bitConfig>()
        .field("lr", &AdamW8bitConfig::lr, "learning rate before the schedule")
        .at_least(0)
        .field("betas", &AdamW8bitConfig::betas, "decay rates of the first and second moment")
        .length(2)
        .at_least(0)
        .less_than(1)
        .field("eps", &AdamW8bitConfig::eps, "added to the root of the second moment")
        .at_least(0)
        .field("weight_decay", &AdamW8bitConfig::weight_decay, "decoupled weight decay")
        .at_least(0)
        .field("block_size", &AdamW8bitConfig::block_size, "elements that share a scale")
        .at_least(1)
        .at_most(kElementsAtOnce)
        .field("min_8bit_size", &AdamW8bitConfig::min_8bit_size,
               "smaller parameters keep their moments in float32")
        .at_least(0)
        .field("param_groups", &AdamW8bitConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

class AdamW8bit final : public Optimizer {
 public:
  using Config = AdamW8bitConfig;
  explicit AdamW8bit(AdamW8bitConfig config) : config_(std::move(config)) {}

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  /// A block reaches over the border between two shards.
  OptimizerNeed need() const override { return OptimizerNeed::kWhole; }
  OptimizerNeed need_of(const ParameterSpec& parameter) const override {
    return is_coded(parameter) ? OptimizerNeed::kWhole : OptimizerNeed::kElements;
  }

  std::vector<OptimizerStateSpec> state_specs() const override {
    using Layout = OptimizerStateSpec::Layout;
    return {{"exp_avg", Layout::kLikeParameter, at::kByte},
            {"exp_avg_sq", Layout::kLikeParameter, at::kByte},
            {"exp_avg_scale", Layout::kBlocks, at::kFloat, config_.block_size},
            {"exp_avg_sq_scale", Layout::kBlocks, at::kFloat, config_.block_size}};
  }
  OptimizerStateSpec state_of(const OptimizerStateSpec& spec,
                              const ParameterSpec& parameter) const override {
    OptimizerStateSpec own = spec;
    if (is_coded(parameter)) return own;
    if (own.layout == OptimizerStateSpec::Layout::kBlocks)
      own.layout = OptimizerStateSpec::Layout::kNone;
    else
      own.dtype = at::kFloat;
    return own;
  }

  void update(OptimizerUpdate& update) override {
    // Whole blocks at a time.
    const std::int64_t chunk = kElementsAtOnce / config_.block_size * config_.block_size;
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      ESPALIER_ASSERT(update.parameters[i].is_contiguous(), "parameters are contiguous");
      const std::int64_t elements = update.parameters[i].numel();
      for (std::int64_t begin = 0; begin < elements; begin += chunk)
        update_part(update, i, begin, std::min(chunk, elements - begin));
    }
  }

 private:
  bool is_coded(const ParameterSpec& parameter) const {
    std::int64_t elements = 1;
    for (const std::int64_t size : parameter.shape()) elements *= size;
    return elements >= config_.min_8bit_size;
  }

  enum State : std::size_t { kFirst, kSecond, kFirstScale, kSecondScale };

  static at::Tensor part(const at::Tensor& tensor, std::int64_t begin, std::int64_t count) {
    return tensor.view({-1}).narrow(0, begin, count);
  }

  void update_part(OptimizerUpdate& update, std::size_t i, std::int64_t begin,
                   std::int64_t count) const {
    const at::Tensor gradient = part(update.gradients[i].contiguous(), begin, count).to(at::kFloat);
    const at::Tensor stored_first = part(update.states[kFirst][i], begin, count);
    const at::Tensor stored_second = part(update.states[kSecond][i], begin, count);
    const std::int64_t block = config_.block_size;
    at::Tensor first = stored_first;
    at::Tensor second = stored_second;
    at::Tensor first_scales;
    at::Tensor second_scales;
    const bool coded = update.states[kFirstScale][i].defined();
    if (coded) {
      const std::int64_t blocks = (count + block - 1) / block;
      first_scales = update.states[kFirstScale][i].narrow(0, begin / block, blocks);
      second_scales = update.states[kSecondScale][i].narrow(0, begin / block, blocks);
      first = first_code_.decode(stored_first, first_scales, block);
      second = second_code_.decode(stored_second, second_scales, block);
    }
    first.mul_(config_.betas[0]).add_(gradient, 1 - config_.betas[0]);
    second.mul_(config_.betas[1]).addcmul_(gradient, gradient, 1 - config_.betas[1]);
    apply(update, part(update.parameters[i], begin, count), first, second);
    if (!coded) return;
    first_code_.encode(first, block, stored_first, first_scales);
    second_code_.encode(second, block, stored_second, second_scales);
  }

  void apply(const OptimizerUpdate& update, const at::Tensor& parameter, const at::Tensor& first,
             const at::Tensor& second) const {
    const auto step = static_cast<double>(update.step);
    const double first_share = 1 - std::pow(config_.betas[0], step);
    const double second_share = std::sqrt(1 - std::pow(config_.betas[1], step));
    const at::Tensor root = second.sqrt().div_(second_share).add_(config_.eps);
    const at::Tensor value = parameter.to(at::kFloat);  // the parameter itself if it is float32
    value.mul_(1 - update.lr * update.weight_decay);
    value.addcdiv_(first, root, -update.lr / first_share);
    if (!value.is_same(parameter)) parameter.copy_(value);
  }

  AdamW8bitConfig config_;
  BlockCode first_code_{/*has_sign=*/true};
  BlockCode second_code_{/*has_sign=*/false};
};

void register_components(Registrar& registrar) {
  registrar
      .add<Optimizer, AdamW8bit>("adamw_8bit",
                                 "AdamW with moments of 8 bits, a scale for each block")
      .alias("bitsandbytes.optim.AdamW8bit")
      .alias("bitsandbytes.optim.Adam8bit");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.adamw_8bit", "0.1.0", espalier::register_components)

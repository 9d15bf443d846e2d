#include "espalier/nn/moe_config.h"

#include "espalier/io/config_reader.h"

namespace espalier::nn {

MoeSpec moe_spec_from_config(const Value& config, const MoeDefaults& defaults) {
  const ConfigReader read(config);
  MoeSpec moe;
  std::string key = "num_local_experts";
  for (const char* other : {"num_experts", "n_routed_experts"}) {
    if (!read.has(key) && read.has(other)) key = other;
  }
  moe.router.num_experts = read.size(key, defaults.num_experts);
  moe.router.num_experts_per_tok = read.size("num_experts_per_tok", defaults.num_experts_per_tok);
  read.require(moe.router.num_experts_per_tok <= moe.router.num_experts, "num_experts_per_tok",
               "at most " + key);
  if (read.flag("output_router_logits", false))
    moe.auxiliary_weight = read.number("router_aux_loss_coef", 0.001);
  return moe;
}

std::vector<bool> sparse_layers_from_config(const Value& config, std::int64_t num_layers) {
  const ConfigReader read(config);
  const std::int64_t step = read.size("decoder_sparse_step", 1);
  std::vector<bool> layers;
  for (std::int64_t layer = 0; layer < num_layers; ++layer)
    layers.push_back((layer + 1) % step == 0);
  if (const Value* dense = read.find("mlp_only_layers")) {
    read.require(dense->is_array(), "mlp_only_layers", "a list of layer numbers");
    for (const Value& layer : dense->as_array()) {
      read.require(layer.is_int() && layer.as_int() >= 0, "mlp_only_layers",
                   "a list of layer numbers");
      if (layer.as_int() < num_layers) layers[static_cast<std::size_t>(layer.as_int())] = false;
    }
  }
  return layers;
}

void check_groups(const RouterSpec& router, const Value& config) {
  const ConfigReader read(config);
  const std::int64_t size = router.num_experts / router.n_group;
  read.require(router.num_experts % router.n_group == 0 && size > 1, "n_group",
               "a divisor of the number of experts that leaves two or more in a group");
  read.require(router.topk_group <= router.n_group, "topk_group", "at most n_group");
  read.require(router.num_experts_per_tok <= router.topk_group * size, "num_experts_per_tok",
               "at most the experts of topk_group groups");
}

std::string quantised_reason(const Value& config) {
  const Value* quantisation = ConfigReader(config).find("quantization_config");
  if (quantisation == nullptr) return {};
  const Value* method = quantisation->find("quant_method");
  return "its weights are quantised" +
         (method != nullptr && method->is_string() ? " (" + method->as_string() + ")"
                                                   : std::string()) +
         "; use a copy in bfloat16 or float32";
}

}  // namespace espalier::nn

#include "prefix_tuning.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include "espalier/base/error.h"
#include "espalier/io/initial_value.h"
#include "espalier/nn/attention_core.h"

namespace espalier::prompts {
namespace {

/// Hands the keys and values of its layer to the core that was in the seat.
class PrefixedAttention final : public nn::AttentionCore {
 public:
  PrefixedAttention(const PromptAdapter& adapter, std::shared_ptr<Parameter> matrix,
                    std::int64_t layers, std::shared_ptr<nn::AttentionCore> core)
      : adapter_(adapter), matrix_(std::move(matrix)), layers_(layers), core_(std::move(core)) {}

  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const nn::AttentionContext& context) override {
    if (!adapter_.enabled()) return core_->attend(q, k, v, context);
    const at::Tensor& rows = matrix_->computed();
    if (rows.size(1) != 2 * layers_ * k.size(1) * k.size(2)) {
      throw Error(Problem{ErrorCode::kUnsupported,
                          "the keys of layer " + std::to_string(context.layer) +
                              " are not laid out as heads that a prefix has",
                          c10::str(k.sizes()),
                          std::to_string(rows.size(1) / (2 * layers_)) + " numbers a token",
                          "[peft]", "use another kind of adapter"});
    }
    const at::Tensor all =  // [tokens, layers * 2, kv_heads, head_dim]
        rows.view({rows.size(0), 2 * layers_, k.size(1), k.size(2)});
    nn::AttentionContext prefixed = context;
    prefixed.prefix_keys = all.select(1, 2 * context.layer);
    prefixed.prefix_values = all.select(1, 2 * context.layer + 1);
    return core_->attend(q, k, v, prefixed);
  }

 private:
  const PromptAdapter& adapter_;
  std::shared_ptr<Parameter> matrix_;
  std::int64_t layers_;
  std::shared_ptr<nn::AttentionCore> core_;
};

}  // namespace

ConfigSchema<PrefixTuningConfig> PrefixTuningConfig::schema() {
  return ConfigSchema<PrefixTuningConfig>()
      .field("num_virtual_tokens", &PrefixTuningConfig::num_virtual_tokens,
             "learnt keys and values before every text, in each layer")
      .at_least(1)
      .field("init_weights", &PrefixTuningConfig::init_weights, "start: random numbers or zeros")
      .one_of({"random", "zero"})
      .field("dtype", &PrefixTuningConfig::dtype, "how they are stored")
      .one_of({"float32", "bfloat16", "float16"})
      .field("path", &PrefixTuningConfig::path,
             "go on from the adapter in this folder: its own settings hold");
}

PrefixTuning::PrefixTuning(const PrefixTuningConfig& config)
    : PromptAdapter("PREFIX_TUNING", config.num_virtual_tokens, config.dtype),
      init_(config.init_weights) {
  if (!config.path.empty()) open(config.path);
}

/// A folder holds keys and values, whatever network PEFT trained them with.
void PrefixTuning::check_config(const peft::PeftReader&) const {}

Dimension PrefixTuning::width(Model& model) const {
  const auto seats = static_cast<std::int64_t>(model.parts().attention_cores.size());
  if (seats != shape().num_layers) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "not every layer of the model has attention to put keys before",
                        std::to_string(seats) + " of " + std::to_string(shape().num_layers),
                        "all of them", "[peft]", "use another kind of adapter"});
  }
  return {{{"prefix", 2 * shape().num_layers * shape().num_key_value_heads * shape().head_dim, 1}}};
}

void PrefixTuning::extend(Model&) {}

void PrefixTuning::install(Model& model) {
  for (const auto& [name, seat] : model.parts().attention_cores)
    *seat = std::make_shared<PrefixedAttention>(*this, matrix(), shape().num_layers, *seat);
}

at::Tensor PrefixTuning::new_values(std::uint64_t seed) const {
  ParameterSpec spec = matrix()->spec();
  if (init_ == "random")
    spec.initialisation = {.kind = Initialisation::Kind::kNormal, .standard_deviation = 1.0};
  return initial_value(spec, at::kFloat, seed);
}

void PrefixTuning::switch_model(ModelParts& parts, bool enabled) {
  parts.prefix.keys = enabled ? tokens() : 0;
}

void PrefixTuning::add_config(Table& table) const {
  table.set("encoder_hidden_size", Value());
  table.set("init_weights", Value());
  table.set("num_attention_heads", shape().num_key_value_heads);
  table.set("prefix_projection", false);
  table.set("token_dim", shape().num_key_value_heads * shape().head_dim);
}

}  // namespace espalier::prompts

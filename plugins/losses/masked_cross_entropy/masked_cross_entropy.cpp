// Cross entropy over labelled positions. Rows without a label never reach the output projection,
// which is most of them in instruction data. Memory: logits of the labelled rows, float32, once.
#include "espalier/ops/cross_entropy.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct MaskedCrossEntropyConfig {
  double label_smoothing = 0.0;
  double z_loss = 0.0;
  double soft_cap = 0.0;

  static ConfigSchema<MaskedCrossEntropyConfig> schema() {
    return ConfigSchema<MaskedCrossEntropyConfig>()
        .field("label_smoothing", &MaskedCrossEntropyConfig::label_smoothing,
               "share of the target spread over all tokens")
        .at_least(0)
        .less_than(1)
        .field("z_loss", &MaskedCrossEntropyConfig::z_loss,
               "weight of the squared log of the normaliser")
        .at_least(0)
        .field("soft_cap", &MaskedCrossEntropyConfig::soft_cap,
               "logits become cap * tanh(logits / cap) first; 0 is off")
        .at_least(0);
  }
};

class MaskedCrossEntropy final : public Loss {
 public:
  using Config = MaskedCrossEntropyConfig;

  explicit MaskedCrossEntropy(const MaskedCrossEntropyConfig& config)
      : options_{config.label_smoothing, config.z_loss, config.soft_cap} {}

  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    const at::Tensor rows = labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
    const at::Tensor logits = head.project(hidden.index_select(0, rows));
    return ops::cross_entropy(logits, labels.index_select(0, rows), options_);
  }

  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return ops::cross_entropy(logits, labels, options_);
  }

 private:
  ops::CrossEntropyOptions options_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Loss, MaskedCrossEntropy>("masked_cross_entropy",
                                     "cross entropy over positions whose label is not -100")
      .property("default_for", "loss_fn")
      .alias("nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.masked_cross_entropy", "0.1.0", espalier::register_components)

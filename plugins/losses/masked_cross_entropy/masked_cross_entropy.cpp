// Cross entropy over labelled positions. Rows without a label never reach the output projection,
// which is most of them in instruction data. Memory: logits of the labelled rows, float32, once.
#include "espalier/base/json.h"
#include "espalier/ops/cross_entropy_config.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct MaskedCrossEntropyConfig : ops::CrossEntropyConfig {
  static ConfigSchema<MaskedCrossEntropyConfig> schema() {
    return ops::cross_entropy_schema<MaskedCrossEntropyConfig>();
  }
};

class MaskedCrossEntropy final : public Loss {
 public:
  using Config = MaskedCrossEntropyConfig;

  explicit MaskedCrossEntropy(const MaskedCrossEntropyConfig& config) : config_(config) {}

  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    const at::Tensor counted = config_.counted(labels);
    const at::Tensor rows = counted.ne(kIgnoredLabel).nonzero().squeeze(-1);
    return ops::cross_entropy(head, hidden.index_select(0, rows), counted.index_select(0, rows),
                              config_.options());
  }

  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return ops::cross_entropy(logits, config_.counted(labels), config_.options());
  }

 private:
  MaskedCrossEntropyConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Loss, MaskedCrossEntropy>("masked_cross_entropy",
                                     "cross entropy over positions whose label is not -100")
      .property("default_for", "loss_fn")
      .alias("nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy",
             parse_json(R"({"fp32_upcast": {"only": true}, "reduction": {"only": "sum"}})")
                 .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.masked_cross_entropy", "0.1.0", espalier::register_components)

// Focal loss, -(1 - p)^gamma log p: tokens that the model already knows count less.
// Lin et al. 2017, "Focal Loss for Dense Object Detection".
#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <espalier/sdk/batch.h>
#include <espalier/sdk/loss.h>
#include <espalier/sdk/plugin.h>

namespace {

struct {{Name}}Config {
  double gamma = 2.0;

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>()
        .field("gamma", &{{Name}}Config::gamma, "how much less well-known tokens count")
        .at_least(0);
  }
};

class {{Name}} final : public espalier::Loss {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(const Config& config) : config_(config) {}

  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels,
                         espalier::Head& head) override {
    const at::Tensor rows = labelled(labels);
    return from_logits(head.project(hidden.index_select(0, rows)), labels.index_select(0, rows));
  }

  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor rows = labelled(labels);
    const at::Tensor scores = at::log_softmax(logits.index_select(0, rows).to(at::kFloat), -1);
    const at::Tensor chosen = labels.index_select(0, rows).unsqueeze(-1);  // [rows, 1]
    const at::Tensor log_p = scores.gather(-1, chosen);
    // A sum: the trainer divides by the label tokens of the whole step.
    return -((1 - log_p.exp()).clamp_min(1e-6).pow(config_.gamma) * log_p).sum();
  }

 private:
  static at::Tensor labelled(const at::Tensor& labels) {
    return labels.ne(espalier::kIgnoredLabel).nonzero().squeeze(-1);
  }

  Config config_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Loss, {{Name}}>("{{name}}", "focal loss: known tokens count less");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)

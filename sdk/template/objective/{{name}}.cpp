// The recipe's loss, and a second term that keeps hidden states small.
#include <ATen/TensorOperators.h>
#include <espalier/sdk/batch.h>
#include <espalier/sdk/objective.h>
#include <espalier/sdk/plugin.h>

namespace {

struct {{Name}}Config {
  double weight = 1e-3;

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>()
        .field("weight", &{{Name}}Config::weight, "of the mean square of the hidden states")
        .at_least(0);
  }
};

class {{Name}} final : public espalier::Objective {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(const Config& config) : config_(config) {}

  // From the data alone: the weights of all micro-batches are added up before the first pass.
  double weight(const espalier::Batch& batch) const override {
    return static_cast<double>(batch.num_label_tokens);
  }

  std::vector<espalier::ObjectiveTerm> compute(const espalier::ObjectiveContext& context,
                                               const espalier::Batch& batch) override {
    const espalier::ModelOutput output = context.model.forward({batch.tensors});
    const at::Tensor labels = espalier::predicted_labels(output.layout, batch.get("labels"),
                                                         batch.labels_shifted);  // [tokens]
    espalier::Head& head = context.model.head();
    const auto scope = head.scope();
    // Sums over the same positions, so that both terms have the weight of the batch.
    const at::Tensor rows = labels.ne(espalier::kIgnoredLabel).nonzero().squeeze(-1);
    const at::Tensor squares =
        output.hidden.index_select(0, rows).to(at::kFloat).square().mean(-1).sum();
    espalier::ObjectiveTerm loss{"loss", context.loss.from_hidden(output.hidden, labels, head),
                                 weight(batch)};
    espalier::ObjectiveTerm size{"hidden_size", squares, weight(batch), config_.weight};
    return {loss, size};
  }

 private:
  Config config_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Objective, {{Name}}>("{{name}}", "the loss, with small hidden states");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)

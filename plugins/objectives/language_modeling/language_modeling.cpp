// Next-token prediction: sum over labelled tokens of the loss, divided by the label tokens of the
// whole step, plus the model's own auxiliary terms averaged over micro-batches.
#include "espalier/base/json.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

class LanguageModeling final : public Objective {
 public:
  double weight(const Batch& batch) const override {
    return static_cast<double>(batch.num_label_tokens);
  }

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    const ModelOutput output = context.model.forward({batch.tensors});
    const at::Tensor labels =
        predicted_labels(output.layout, batch.get("labels"), batch.labels_shifted)
            .to(output.hidden.device());
    const auto scope = context.model.head().scope();
    std::vector<ObjectiveTerm> terms;
    terms.push_back({"loss", context.loss.from_hidden(output.hidden, labels, context.model.head()),
                     static_cast<double>(batch.num_label_tokens)});
    for (const AuxiliaryTerm& term : output.auxiliary) {
      const bool measured = term.weight == 0;
      terms.push_back({term.name, term.value, 1.0, measured ? 1.0 : term.weight, false, measured});
    }
    return terms;
  }
};

void register_components(Registrar& registrar) {
  registrar.add<Objective, LanguageModeling>("language_modeling", "predict the next token")
      .alias("nemo_automodel.recipes.llm.train_ft.TrainFinetuneRecipeForNextTokenPrediction")
      .property("default_for", "objective");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.language_modeling", "0.1.0", espalier::register_components)

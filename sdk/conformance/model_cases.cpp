#include "espalier/conformance/model_cases.h"

#include <ATen/TensorOperators.h>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/small_model.h"

namespace espalier::conformance {

std::unique_ptr<Model> ModelCase::build(const Subject& subject) const {
  return subject.create<ModelProvider>()->build(config);
}

std::unique_ptr<Model> ModelCase::with_values(const Subject& subject) const {
  auto model = build(subject);
  give_values(*model, subject.seed);
  return model;
}

void for_each_case(const Subject& subject, Report& report,
                   const std::function<void(const ModelCase&, Report&)>& check) {
  const Value* configs = subject.sample.find("configs");
  if (configs == nullptr || !configs->is_array() || configs->as_array().empty())
    return report.skip(
        "conformance.json gives no config.json to build a model from: "
        "{\"components\": {NAME: {\"configs\": [{...}]}}}");
  std::size_t number = 0;
  for (const Value& config : configs->as_array()) {
    const Value* architectures = config.find("architectures");
    std::string name = "config " + std::to_string(number++);
    if (architectures != nullptr && architectures->is_array() && !architectures->as_array().empty())
      name += " (" + architectures->as_array().front().as_string() + ")";
    check({name, config}, report);
  }
}

at::Tensor model_ids(const Subject& subject, std::int64_t batch, std::int64_t length) {
  return random_integers({batch, length}, kModelVocabulary, subject.seed, 11);
}

at::Tensor model_logits(Model& model, const ModelInput& input) {
  const ModelOutput output = model.forward(input);
  const auto scope = model.head().scope();
  return model.head().project(output.hidden).to(at::kFloat);
}

}  // namespace espalier::conformance

// Learning from a second model (Hinton et al. 2015): cross entropy with the labels and divergence
// from the teacher's distribution, mixed, over labelled tokens. Logits of the labelled rows of both
// models are whole in memory.
#include "espalier/ops/distillation.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct DistillationConfig {
  double kd_ratio = 0.5;
  double temperature = 1.0;
  std::string divergence = "forward";

  static ConfigSchema<DistillationConfig> schema() {
    return ConfigSchema<DistillationConfig>()
        .field("kd_ratio", &DistillationConfig::kd_ratio,
               "weight of the teacher; the labels have the rest")
        .at_least(0)
        .at_most(1)
        .field("temperature", &DistillationConfig::temperature,
               "both models' logits are divided by it")
        .more_than(0)
        .field("divergence", &DistillationConfig::divergence,
               "forward: KL(teacher || student); reverse; or jensen_shannon")
        .one_of({"forward", "reverse", "jensen_shannon"});
  }
};

ops::Divergence divergence_of(const std::string& name) {
  if (name == "reverse") return ops::Divergence::kReverse;
  return name == "forward" ? ops::Divergence::kForward : ops::Divergence::kJensenShannon;
}

class Distillation final : public Objective {
 public:
  using Config = DistillationConfig;
  explicit Distillation(const DistillationConfig& config)
      : config_(config), divergence_(divergence_of(config.divergence)) {}

  double weight(const Batch& batch) const override {
    return static_cast<double>(batch.num_label_tokens);
  }

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    check(context);
    const ModelOutput output = context.model.forward({batch.tensors});
    const at::Tensor all =
        predicted_labels(output.layout, batch.get("labels"), batch.labels_shifted);
    const at::Tensor rows = all.ne(kIgnoredLabel).nonzero().squeeze(-1);
    const at::Tensor labels = all.index_select(0, rows);
    const auto scope = context.model.head().scope();
    const at::Tensor student = context.model.head().project(output.hidden.index_select(0, rows));
    const at::Tensor taught =
        ops::distillation(student, teacher_logits(*context.teacher, batch, rows), labels,
                          divergence_, config_.temperature);
    const double weight = static_cast<double>(batch.num_label_tokens);
    std::vector<ObjectiveTerm> terms;
    terms.push_back({"kd_loss", taught, weight, config_.kd_ratio});
    if (config_.kd_ratio < 1)
      terms.push_back(
          {"ce_loss", context.loss.from_logits(student, labels), weight, 1.0 - config_.kd_ratio});
    for (const AuxiliaryTerm& term : output.auxiliary)
      terms.push_back({term.name, term.value, 1.0, term.weight, false});
    return terms;
  }

 private:
  static void check(const ObjectiveContext& context) {
    if (context.teacher == nullptr) {
      throw_bad_input("distillation needs a teacher", {}, "[teacher_model] with a path",
                      "[objective]", "add the section; the teacher may be of another architecture");
    }
    const std::int64_t student = context.model.head().vocab_size();
    const std::int64_t teacher = context.teacher->head().vocab_size();
    if (student != teacher) {
      throw_bad_input("student and teacher have vocabularies of different sizes",
                      std::to_string(student) + " and " + std::to_string(teacher), "equal sizes",
                      "[teacher_model]", "choose a teacher with the student's tokenizer");
    }
  }

  static at::Tensor teacher_logits(Model& teacher, const Batch& batch, const at::Tensor& rows) {
    const at::NoGradGuard no_grad;
    const ModelOutput output = teacher.forward({batch.tensors});
    const auto scope = teacher.head().scope();
    return teacher.head().project(output.hidden.index_select(0, rows));
  }

  DistillationConfig config_;
  ops::Divergence divergence_;
};

void register_components(Registrar& registrar) {
  registrar.add<Objective, Distillation>("distillation", "learn from the labels and a teacher")
      .alias("nemo_automodel.recipes.llm.kd.KnowledgeDistillationRecipeForNextTokenPrediction",
             parse_json(R"({"kd_ratio": "kd_ratio", "temperature": "temperature",
                 "offload_teacher_model": {"only": false}, "separate_meshes": {"only": false},
                 "kd_loss_fn": {"as": ".",
                     "targets": ["nemo_automodel.components.loss.kd_loss.KDLoss"],
                     "keys": {"temperature": "temperature", "ignore_index": {"only": -100},
                              "fp32_upcast": {"only": true},
                              "chunk_size": {"note": "says how much is computed at once"}}}})")
                 .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.distillation", "0.1.0", espalier::register_components)

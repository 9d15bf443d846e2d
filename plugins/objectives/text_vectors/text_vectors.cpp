// Objectives over whole texts: a reward learnt from pairs of answers (Bradley and Terry 1952;
// Ouyang et al. 2022), and embeddings learnt by contrast. A sample holds its texts as documents.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/matmul.h>

#include "espalier/base/error.h"
#include "espalier/ops/pooling.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

ObjectiveTerm measured(const char* name, const at::Tensor& values, double weight) {
  ObjectiveTerm term{name, values.detach().to(at::kFloat).sum(), weight};
  term.measured_only = true;
  return term;
}

/// Texts in each sample of the batch. Throws where samples differ in it.
std::int64_t texts_of_a_sample(const Batch& batch, const TokenLayout& layout, std::int64_t least) {
  const std::int64_t samples = layout.batch;
  const bool even = batch.get("cu_seqlens").defined() && samples > 0 &&
                    layout.documents() % samples == 0 && layout.documents() / samples >= least;
  if (even) return layout.documents() / samples;
  throw_bad_input(
      "the samples are not of equally many texts",
      std::to_string(layout.documents()) + " texts in " + std::to_string(samples) + " samples",
      std::to_string(least) + " texts in each, and as many in all of a micro-batch", "[dataset]",
      "use a dataset of pairs, without packing");
}

class Reward final : public Objective {
 public:
  double weight(const Batch& batch) const override {
    return static_cast<double>(pairs(make_layout({batch.tensors})));
  }

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    const ModelOutput output = context.model.forward({batch.tensors});
    const std::int64_t count = pairs(output.layout);
    Head& head = context.model.head();
    if (head.vocab_size() != 1) {
      throw_bad_input("a reward is one score for each text",
                      std::to_string(head.vocab_size()) + " scores", "1", "[model]",
                      "set task = \"sequence_classification\" and config.num_labels = 1");
    }
    const auto scope = head.scope();
    const at::Tensor rows = ops::last_token_rows(output.layout, batch.get("input_ids"));
    const at::Tensor rewards =
        head.project(output.hidden.index_select(0, rows.to(output.hidden.device())))
            .to(at::kFloat)
            .reshape({-1, 2});
    const at::Tensor chosen = rewards.select(1, 0);
    const at::Tensor rejected = rewards.select(1, 1);
    const auto weight = static_cast<double>(count);
    return {{"loss", -at::log_sigmoid(chosen - rejected).sum(), weight},
            measured("reward_accuracy", chosen.gt(rejected), weight),
            measured("reward_margin", chosen - rejected, weight)};
  }

 private:
  static std::int64_t pairs(const TokenLayout& layout) {
    if (layout.documents() % 2 == 0) return layout.documents() / 2;
    throw_bad_input("the batch is not made of pairs of answers",
                    std::to_string(layout.documents()) + " texts",
                    "a chosen and a rejected one in each sample", "[dataset]",
                    "use a dataset of preferences; where texts are long, set its max_length");
  }
};

struct ContrastiveConfig {
  double temperature = 0.05;
  std::string pooling = "mean";
  bool normalize = true;

  static ConfigSchema<ContrastiveConfig> schema() {
    return ConfigSchema<ContrastiveConfig>()
        .field("temperature", &ContrastiveConfig::temperature, "what similarities are divided by")
        .more_than(0)
        .field("pooling", &ContrastiveConfig::pooling, "how a text becomes one vector")
        .one_of({"mean", "last"})
        .field("normalize", &ContrastiveConfig::normalize,
               "vectors of length 1, so that similarity is the cosine");
  }
};

class Contrastive final : public Objective {
 public:
  using Config = ContrastiveConfig;
  explicit Contrastive(const ContrastiveConfig& config) : config_(config) {}

  double weight(const Batch& batch) const override {
    return static_cast<double>(make_layout({batch.tensors}).batch);
  }

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    const ModelOutput output = context.model.forward({batch.tensors});
    const std::int64_t texts = texts_of_a_sample(batch, output.layout, 2);
    const ops::Pooling pooling =
        config_.pooling == "last" ? ops::Pooling::kLast : ops::Pooling::kMean;
    const at::Tensor vectors =
        ops::pool_documents(output.hidden, output.layout, pooling, config_.normalize)
            .reshape({-1, texts, output.hidden.size(1)});  // [samples, texts, embed]
    const at::Tensor queries = vectors.select(1, 0);
    at::Tensor passages = vectors.select(1, 1);
    if (texts > 2) {
      const at::Tensor negatives = vectors.narrow(1, 2, texts - 2).reshape({-1, vectors.size(2)});
      passages = at::cat({passages, negatives});
    }
    const auto weight = static_cast<double>(queries.size(0));
    const at::Tensor best = at::matmul(queries.detach(), passages.detach().t()).argmax(-1);
    const at::Tensor found = best.eq(at::arange(queries.size(0), best.options()));
    return {{"loss", ops::info_nce(queries, passages, config_.temperature), weight},
            measured("retrieval_accuracy", found, weight)};
  }

 private:
  ContrastiveConfig config_;
};

void register_components(Registrar& registrar) {
  registrar.add<Objective, Reward>(
      "reward", "the chosen of two answers gets the higher score (Bradley-Terry)");
  registrar.add<Objective, Contrastive>(
      "contrastive",
      "a text finds its counterpart among those of the micro-batch (InfoNCE); without a head");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.text_vectors", "0.1.0", espalier::register_components)

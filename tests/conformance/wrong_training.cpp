// Optimizers, schedules and objectives that break one promise each. `violates` names the check that
// has to find it.
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>

#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// Gradient descent with momentum, as it should be.
class Sound : public Optimizer {
 public:
  double lr() const override { return 0.1; }
  double weight_decay() const override { return 0.0; }
  const std::vector<ParameterGroupConfig>& groups() const override { return groups_; }
  std::vector<OptimizerStateSpec> state_specs() const override { return {{"momentum"}}; }
  void update(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      at::Tensor& momentum = update.states[0][i];
      momentum.mul_(0.9).add_(update.gradients[i]);
      update.parameters[i].add_(momentum, -update.lr);
    }
  }

 private:
  std::vector<ParameterGroupConfig> groups_;
};

class OneName final : public Sound {
  std::vector<OptimizerStateSpec> state_specs() const override {
    return {{"momentum"}, {"momentum"}};
  }
};

class ChangesACopy final : public Sound {
  void update(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i)
      update.parameters[i] = update.parameters[i] - update.gradients[i] * update.lr;
  }
};

class Drifts final : public Sound {
  void update(OptimizerUpdate& update) override {
    Sound::update(update);
    for (at::Tensor& parameter : update.parameters) parameter.mul_(0.99);
  }
};

class SamePoint final : public Sound {
  bool has_eval_point() const override { return true; }
  void to_eval_point(OptimizerUpdate&) override {}
};

class OwnRate final : public Sound {
  void update(OptimizerUpdate& update) override {
    if (update.lr == 0) return;
    update.lr = lr();
    Sound::update(update);
  }
};

class HiddenCounter final : public Sound {
  void update(OptimizerUpdate& update) override {
    update.lr /= ++steps_;
    Sound::update(update);
  }
  double steps_ = 0;
};

class WholeGroup final : public Sound {
  void update(OptimizerUpdate& update) override {
    update.lr /= static_cast<double>(update.parameters.size());
    Sound::update(update);
  }
};

class Climbs final : public Sound {
  void update(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i)
      update.parameters[i].add_(update.gradients[i], update.lr * 1e-3);
  }
};

class NoEmptyOnes final : public Sound {
  void update(OptimizerUpdate& update) override {
    for (const at::Tensor& parameter : update.parameters) (void)parameter.max();
    Sound::update(update);
  }
};

class NoRate final : public LrScheduler {
 public:
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    return base_lr / static_cast<double>(total_steps - 1 - step);  // infinite, then negative
  }
};

class Remembers final : public LrScheduler {
 public:
  double lr(std::int64_t, double base_lr, std::int64_t) const override {
    return rate_ = rate_ == 0 ? base_lr : rate_ * 0.9;
  }

 private:
  mutable double rate_ = 0;
};

class Fixed final : public LrScheduler {
 public:
  double lr(std::int64_t, double, std::int64_t) const override { return 1e-4; }
};

class SoundObjective : public Objective {
 public:
  double weight(const Batch& batch) const override {
    return static_cast<double>(batch.num_label_tokens);
  }
  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    const ModelOutput output = context.model.forward({batch.tensors});
    const auto scope = context.model.head().scope();
    return {
        {"loss",
         context.loss.from_hidden(output.hidden, shift_labels(output.layout, batch.get("labels")),
                                  context.model.head()),
         weight(batch)}};
  }
};

class OneABatch final : public SoundObjective {
  double weight(const Batch&) const override { return 1; }
};

class Detached final : public SoundObjective {
  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    auto terms = SoundObjective::compute(context, batch);
    terms[0].sum = terms[0].sum.detach();
    return terms;
  }
};

class Divides final : public SoundObjective {
  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    auto terms = SoundObjective::compute(context, batch);
    terms[0].sum = terms[0].sum / weight(batch);
    return terms;
  }
};

template <class I, class T>
void add(Registrar& registrar, const char* name, const char* check) {
  registrar.add<I, T>(name, "Breaks one promise.").property("violates", check);
}

void register_components(Registrar& registrar) {
  add<Optimizer, OneName>(registrar, "one_name", "optimizer.state_names");
  add<Optimizer, ChangesACopy>(registrar, "changes_a_copy", "optimizer.updates");
  add<Optimizer, Drifts>(registrar, "drifts", "optimizer.still");
  add<Optimizer, OwnRate>(registrar, "own_rate", "optimizer.scheduled_rate");
  add<Optimizer, SamePoint>(registrar, "same_point", "optimizer.eval_point");
  add<Optimizer, HiddenCounter>(registrar, "hidden_counter", "optimizer.resume");
  add<Optimizer, WholeGroup>(registrar, "whole_group", "optimizer.grouping");
  add<Optimizer, Climbs>(registrar, "climbs", "optimizer.descent");
  add<Optimizer, NoEmptyOnes>(registrar, "no_empty_ones", "optimizer.shapes");
  add<LrScheduler, NoRate>(registrar, "no_rate", "lr_scheduler.finite");
  add<LrScheduler, Remembers>(registrar, "remembers", "lr_scheduler.pure");
  add<LrScheduler, Fixed>(registrar, "fixed", "lr_scheduler.base");
  add<Objective, OneABatch>(registrar, "one_a_batch", "objective.weight");
  add<Objective, Detached>(registrar, "detached", "objective.terms");
  add<Objective, Divides>(registrar, "divides", "objective.micro_batches");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.training", "1.0.0", espalier::register_components)

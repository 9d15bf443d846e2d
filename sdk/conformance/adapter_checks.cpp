// What a trainer relies on in an Adapter: a fresh one changes nothing, it alone is trained, and
// what it learnt survives saving and merging.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <filesystem>
#include <set>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/conformance/small_model.h"
#include "espalier/sdk/adapter.h"

namespace espalier::conformance {
namespace {

constexpr double kRounding = 1e-4;  // products in another order

/// A small model with an adapter on it; `from` is a folder to open, or empty.
struct Adapted {
  std::shared_ptr<Adapter> adapter;
  std::unique_ptr<Model> model = small_model_on_meta();

  Adapted(const Subject& subject, std::uint64_t adapter_seed, const std::string& from = {})
      : adapter(subject.create<Adapter>()) {
    if (!from.empty()) adapter->open(from);
    adapter->attach(*model);
    give_values(*model, subject.seed);
    adapter->initialise(*model, adapter_seed);
    adapter->begin_pass({});
  }

  at::Tensor logits(const Subject& subject) {
    const auto scope = model->head().scope();
    return model->head().project(
        hidden_states(*model, random_integers({2, 6}, kSmallVocabulary, subject.seed, 1)));
  }
  /// Gives every weight of the adapter a value that is not its start.
  void train(std::uint64_t seed) const {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : adapter->parameters())
      parameter->value().add_(random_tensor(parameter->value().sizes(), seed, 7)
                                  .mul(0.1)
                                  .to(parameter->value().scalar_type()));
  }
};

at::Tensor plain_logits(const Subject& subject) {
  const auto model = small_model(subject.seed);
  const auto scope = model->head().scope();
  return model->head().project(
      hidden_states(*model, random_integers({2, 6}, kSmallVocabulary, subject.seed, 1)));
}

void check_identity(const Subject& subject, Report& report) {
  Adapted fresh(subject, subject.seed);
  if (!fresh.adapter->starts_as_identity())
    return report.skip("the adapter puts something before every text");
  expect_close(report, "a fresh adapter changes what the model computes", fresh.logits(subject),
               plain_logits(subject), 1e-6,
               "start at the identity: one factor of a product is zero, a scale is one");
}

void check_gradients(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  if (adapted.adapter->parameters().empty())
    return report.fail("the adapter has no parameters after attach", "0", "at least one",
                       "attach makes them; its config must match modules of the kit's model "
                       "(q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj)");
  adapted.train(subject.seed);
  adapted.logits(subject).square().sum().backward();
  std::set<const Parameter*> own;
  for (const auto& parameter : adapted.adapter->parameters()) {
    own.insert(parameter.get());
    if (!parameter->trainable())
      report.fail("parameter '" + parameter->name() + "' of the adapter is not trainable");
    const at::Tensor gradient = parameter->value().grad();
    if (!gradient.defined() || gradient.abs().max().item<double>() == 0)
      return report.fail("parameter '" + parameter->name() + "' of the adapter gets no gradient",
                         gradient.defined() ? "zeros" : "none", "a gradient",
                         "use parameter->computed() in apply(), and do not detach");
  }
  for (const auto& parameter : adapted.model->parts().parameters) {
    if (own.contains(parameter.get()) || !parameter->trainable()) continue;
    return report.fail("attach leaves a weight of the model trainable", parameter->name(),
                       "frozen weights",
                       "attach calls set_trainable(false) on the model's parameters");
  }
}

void check_names(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  const auto& parameters = adapted.adapter->parameters();
  std::set<std::string> names;
  for (const auto& parameter : parameters) {
    if (!names.insert(parameter->name()).second)
      report.fail("two parameters of the adapter have one name", parameter->name());
    if (parameter->value().is_meta())
      report.fail("initialise leaves a parameter without a value", parameter->name());
  }
  if (adapted.adapter->mappings().size() != parameters.size())
    report.fail("mappings() and parameters() differ in length",
                std::to_string(adapted.adapter->mappings().size()),
                std::to_string(parameters.size()), "one mapping a parameter, in the same order");
}

void check_seed(const Subject& subject, Report& report) {
  Adapted first(subject, subject.seed);
  Adapted second(subject, subject.seed);
  for (std::size_t i = 0; i < first.adapter->parameters().size(); ++i)
    expect_close(report, "two adapters of one seed start with different values",
                 second.adapter->parameters()[i]->value(), first.adapter->parameters()[i]->value(),
                 0, "draw from the seed given to initialise (initial_value does)");
}

void check_without_weights(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  if (!adapted.adapter->initialises_without_weights())
    return report.skip("initialise looks at the model's weights");
  const auto model = small_model_on_meta();
  const auto early = subject.create<Adapter>();
  early->attach(*model);
  early->initialise(*model, subject.seed);
  const std::string hint = "return false from initialises_without_weights, or don't look";
  for (std::size_t i = 0; i < early->parameters().size(); ++i) {
    const at::Tensor value = early->parameters()[i]->value();
    if (value.is_meta())
      return report.fail("a parameter has no value while the weights have none",
                         early->parameters()[i]->name(), "a value", hint);
    expect_close(report, "values depend on the model's weights", value,
                 adapted.adapter->parameters()[i]->value(), 0, hint);
  }
}

void check_switch(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  adapted.train(subject.seed);
  const at::Tensor plain = plain_logits(subject);
  const at::Tensor with = adapted.logits(subject);
  if (relative_difference(with, plain) < 1e-4)
    report.fail("other values in the adapter's weights change nothing", {},
                "other logits than the model's own");
  adapted.adapter->set_enabled(false);
  if (adapted.adapter->enabled()) report.fail("enabled() is true after set_enabled(false)");
  expect_close(report, "a switched off adapter changes what the model computes",
               adapted.logits(subject), plain, 1e-6, "apply() returns its input when switched off");
  adapted.adapter->set_enabled(true);
  expect_close(report, "switching off and on again changes what the adapter computes",
               adapted.logits(subject), with, 0);
}

void check_merge(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  adapted.train(subject.seed);
  const at::Tensor with = adapted.logits(subject);
  const at::Tensor plain = plain_logits(subject);
  const std::string hint = "merge adds the effect to the weights and switches the adapter off";
  try {
    adapted.adapter->merge(*adapted.model);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    return report.skip(error.problems().front().what);
  }
  expect_close(report, "the merged model computes something else", adapted.logits(subject), with,
               kRounding, hint);
  try {
    adapted.adapter->unmerge(*adapted.model);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    return;
  }
  expect_close(report, "unmerge does not give the model back", adapted.logits(subject), plain,
               kRounding, "unmerge takes out what merge has added, and switches the adapter off");
}

void check_files(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  adapted.train(subject.seed);
  const std::string folder = subject.folder + "/adapter";
  std::filesystem::create_directories(folder);
  adapted.adapter->save(folder, "conformance/base", held_value);
  Adapted again(subject, subject.seed + 1, folder);
  for (std::size_t i = 0; i < adapted.adapter->parameters().size(); ++i) {
    const auto& parameter = adapted.adapter->parameters()[i];
    if (i >= again.adapter->parameters().size())
      return report.fail("the opened adapter has fewer parameters",
                         std::to_string(again.adapter->parameters().size()),
                         std::to_string(adapted.adapter->parameters().size()));
    expect_close(report, "parameter '" + parameter->name() + "' changes on its way through files",
                 again.adapter->parameters()[i]->value(), parameter->value(), 0,
                 "save writes every parameter, and initialise reads them after open");
  }
  expect_close(report, "the opened adapter computes something else", again.logits(subject),
               adapted.logits(subject), 0);
}

void check_dropout(const Subject& subject, Report& report) {
  Adapted adapted(subject, subject.seed);
  adapted.train(subject.seed);
  const PassPosition position{subject.seed, 3, 1, true};
  adapted.adapter->begin_pass(position);
  const at::Tensor first = adapted.logits(subject);
  adapted.adapter->begin_pass({subject.seed, 4, 0, true});
  adapted.logits(subject);
  adapted.adapter->begin_pass(position);
  expect_close(report, "the same pass draws other random numbers when it is computed again",
               adapted.logits(subject), first, 0,
               "draw from CounterRandom over the position and the site, not from a generator");
}

}  // namespace

std::span<const Check> adapter_checks() {
  static constexpr Check kChecks[] = {
      {"adapter.identity", 3, "a fresh adapter changes nothing", check_identity},
      {"adapter.gradients", 3, "its parameters get gradients, those of the model none",
       check_gradients},
      {"adapter.names", 3, "every parameter has a name, a value and a place on disk", check_names},
      {"adapter.seed", 3, "one seed gives one start", check_seed},
      {"adapter.without_weights", 3, "it starts without the model's weights if it says so",
       check_without_weights},
      {"adapter.switch", 3, "switched off, the model is as before", check_switch},
      {"adapter.merge", 3, "merging keeps the numbers and can be undone", check_merge},
      {"adapter.files", 3, "saving and opening gives the same adapter", check_files},
      {"adapter.repeatable", 3, "a pass that is computed again is the same", check_dropout},
  };
  return kChecks;
}

}  // namespace espalier::conformance

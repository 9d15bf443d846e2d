// What a trainer relies on in an Optimizer: all state lies in the tensors that the host holds, so
// that it can be sharded, saved and given back.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <set>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/sdk/optimizer.h"

namespace espalier::conformance {
namespace {

using Tensors = std::vector<at::Tensor>;

/// Parameters with their state, updated with gradients that depend on the step alone.
struct Training {
  Tensors parameters;
  std::vector<ParameterSpec> specs;
  std::vector<Tensors> states;  // [spec][parameter]
  std::uint64_t seed;

  Training(Optimizer& optimizer, Tensors start, std::uint64_t seed)
      : parameters(std::move(start)), seed(seed) {
    for (const at::Tensor& parameter : parameters) specs.push_back(spec_of(parameter));
    for (const OptimizerStateSpec& spec : optimizer.state_specs()) {
      Tensors state;
      for (std::size_t i = 0; i < parameters.size(); ++i)
        state.push_back(make_state(optimizer.state_of(spec, specs[i]), parameters[i]));
      states.push_back(std::move(state));
    }
  }

  /// Named by its shape, so that it is the same alone and in a group.
  static ParameterSpec spec_of(const at::Tensor& parameter) {
    ParameterSpec spec{"layer." + shape_text(parameter.sizes()) + ".weight", {}, {}};
    for (const std::int64_t size : parameter.sizes())
      spec.dimensions.push_back({{{"embed", size, 1}}});
    return spec;
  }

  Tensors gradients(std::int64_t step) const {
    Tensors found;
    for (std::size_t i = 0; i < parameters.size(); ++i)
      found.push_back(
          random_tensor(parameters[i].sizes(), seed, 1000 * static_cast<std::uint64_t>(step) + i)
              .to(parameters[i].scalar_type()));
    return found;
  }

  void update(Optimizer& optimizer, std::int64_t step, double lr, double weight_decay,
              Tensors gradients) {
    const at::NoGradGuard no_grad;
    OptimizerUpdate update{parameters, std::move(gradients), states, step, lr, weight_decay, {}};
    for (const ParameterSpec& spec : specs) update.specs.push_back(&spec);
    optimizer.update(update);
  }
  void run(Optimizer& optimizer, std::int64_t first, std::int64_t last) {
    for (std::int64_t step = first; step <= last; ++step)
      update(optimizer, step, optimizer.lr(), optimizer.weight_decay(), gradients(step));
  }
};

Tensors start_values(std::uint64_t seed) {
  return {random_tensor({5, 7}, seed, 1), random_tensor({3}, seed, 2),
          random_tensor({4, 4}, seed, 3)};
}

Tensors copies(const Tensors& tensors) {
  Tensors found;
  for (const at::Tensor& tensor : tensors)
    found.push_back(tensor.defined() ? tensor.clone() : tensor);
  return found;
}

void expect_equal(Report& report, const std::string& what, const Tensors& actual,
                  const Tensors& expected, double limit, const std::string& hint) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!actual[i].defined() && !expected[i].defined()) continue;
    if (relative_difference(actual[i], expected[i]) <= limit) continue;
    return expect_close(report, what, actual[i], expected[i], limit, hint);
  }
}

void check_state_names(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  std::set<std::string> names;
  for (const OptimizerStateSpec& spec : optimizer->state_specs()) {
    if (spec.name.empty()) report.fail("a state has no name", {}, "a name such as 'exp_avg'");
    if (!names.insert(spec.name).second)
      report.fail("two states have one name", spec.name, "names that differ",
                  "checkpoints store states by name");
  }
  if (!(optimizer->lr() >= 0) || !(optimizer->weight_decay() >= 0))
    report.fail("lr and weight_decay are not both at least 0",
                number_text(optimizer->lr()) + " and " + number_text(optimizer->weight_decay()));
}

void check_updates(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  Training training(*optimizer, start_values(subject.seed), subject.seed);
  const Tensors before = copies(training.parameters);
  training.update(*optimizer, 1, 0.1, 0.0, training.gradients(1));
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (training.parameters[i].equal(before[i]))
      return report.fail("an update leaves parameter " + std::to_string(i) + " as it was",
                         "no change", "another value after a step with lr 0.1",
                         "update.parameters are changed in place (add_, mul_, copy_)");
    if (!training.parameters[i].isfinite().all().item<bool>())
      return report.fail("an update gives values that are not finite");
  }
}

void check_still(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  Training training(*optimizer, start_values(subject.seed), subject.seed);
  const Tensors before = copies(training.parameters);
  training.update(*optimizer, 1, 0.0, 0.0, training.gradients(1));
  expect_equal(report, "a step with lr 0 and no weight decay changes parameters",
               training.parameters, before, 1e-6,
               "multiply every change by update.lr, which is the scheduled rate");
}

void check_scheduled_rate(const Subject& subject, Report& report) {
  const auto moved = [&](double lr) {
    const auto optimizer = subject.create<Optimizer>();
    Training training(*optimizer, start_values(subject.seed), subject.seed);
    const Tensors before = copies(training.parameters);
    training.update(*optimizer, 1, lr, 0.0, training.gradients(1));
    return (training.parameters[0] - before[0]).abs().sum().item<double>();
  };
  const double small = moved(1e-4);
  const double large = moved(1e-2);
  if (!(large > 5 * small))
    report.fail("the size of a step does not follow update.lr",
                number_text(small) + " with 1e-4 and " + number_text(large) + " with 1e-2",
                "a larger step with a larger rate",
                "use update.lr, not the rate of the config: the schedule changes it");
}

void check_resume(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  Training whole(*optimizer, start_values(subject.seed), subject.seed);
  whole.run(*optimizer, 1, 6);

  const auto first = subject.create<Optimizer>();
  Training part(*first, start_values(subject.seed), subject.seed);
  part.run(*first, 1, 3);
  const auto second = subject.create<Optimizer>();  // what a new process has
  Training rest(*second, copies(part.parameters), subject.seed);
  for (std::size_t i = 0; i < part.states.size(); ++i) rest.states[i] = copies(part.states[i]);
  rest.run(*second, 4, 6);
  expect_equal(report, "training that goes on from saved state ends elsewhere", rest.parameters,
               whole.parameters, 0,
               "keep everything that a step leaves behind in update.states, declared by "
               "state_specs(), and use update.step instead of a counter");
}

void check_eval_point(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  if (!optimizer->has_eval_point())
    return report.skip("the optimizer trains at the point that is the result");
  Training training(*optimizer, start_values(subject.seed), subject.seed);
  training.run(*optimizer, 1, 4);
  const auto eval_point = [&] {
    OptimizerUpdate update{copies(training.parameters), {}, {}, 4, 0.0, 0.0, {}};
    for (const Tensors& state : training.states) update.states.push_back(copies(state));
    for (const ParameterSpec& spec : training.specs) update.specs.push_back(&spec);
    const at::NoGradGuard no_grad;
    optimizer->to_eval_point(update);
    for (std::size_t s = 0; s < training.states.size(); ++s)
      expect_equal(report, "to_eval_point changes the state", update.states[s], training.states[s],
                   0, "it replaces update.parameters alone");
    return update.parameters;
  };
  const Tensors first = eval_point();
  expect_equal(report, "the eval point differs when it is asked for again", eval_point(), first, 0,
               "compute it from parameters and state alone");
  if (relative_difference(first[0], training.parameters[0]) < 1e-6)
    report.fail("the eval point is the point of training", {}, "another point",
                "leave has_eval_point() false where there is none");
  for (const at::Tensor& parameter : first)
    if (!parameter.isfinite().all().item<bool>())
      report.fail("the eval point has values that are not finite");
}

void check_grouping(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  Training together(*optimizer, start_values(subject.seed), subject.seed);
  const Tensors gradients = together.gradients(1);
  together.update(*optimizer, 1, 0.1, 0.01, copies(gradients));
  const Tensors start = start_values(subject.seed);
  for (std::size_t i = 0; i < start.size(); ++i) {
    const auto other = subject.create<Optimizer>();
    Training alone(*other, {start[i]}, subject.seed);
    alone.update(*other, 1, 0.1, 0.01, {gradients[i].clone()});
    expect_close(report, "a parameter is updated otherwise when it is alone in its group",
                 alone.parameters[0], together.parameters[i], 1e-5,
                 "treat each parameter by itself");
  }
}

void check_descent(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  Training training(*optimizer, {random_tensor({20}, subject.seed, 1)}, subject.seed);
  const at::Tensor target = random_tensor({20}, subject.seed, 2);
  const auto distance = [&] {
    return (training.parameters[0] - target).square().sum().item<double>();
  };
  const double before = distance();
  const double lr = std::max(optimizer->lr(), 1e-2);
  for (std::int64_t step = 1; step <= 100; ++step)
    training.update(*optimizer, step, lr, 0.0, {(training.parameters[0] - target) * 2});
  if (!(distance() < 0.9 * before))
    report.fail("100 steps on a quadratic do not lower it",
                number_text(before) + " before, " + number_text(distance()) + " after", {},
                "check the sign of the step");
}

void check_shapes(const Subject& subject, Report& report) {
  const auto optimizer = subject.create<Optimizer>();
  Tensors start = {at::empty({0, 4}, at::kFloat), random_tensor({1}, subject.seed, 1),
                   random_tensor({3, 5, 2}, subject.seed, 2),
                   random_tensor({4, 3}, subject.seed, 3).to(at::kBFloat16)};
  for (at::Tensor& parameter : start) {
    Training training(*optimizer, {parameter}, subject.seed);
    try {
      training.run(*optimizer, 1, 2);
    } catch (const std::exception& error) {
      report.fail("an update of a parameter " + shape_text(parameter.sizes()) + " of " +
                      at::toString(parameter.scalar_type()) + " throws",
                  error.what(),
                  "empty parameters, and those of any shape and dtype, are updated too");
      continue;
    }
    if (!parameter.isfinite().all().item<bool>())
      report.fail("an update of a parameter " + shape_text(parameter.sizes()) + " of " +
                  at::toString(parameter.scalar_type()) + " is not finite");
  }
}

}  // namespace

std::span<const Check> optimizer_checks() {
  static constexpr Check kChecks[] = {
      {"optimizer.state_names", 3, "states have names of their own; rates are not negative",
       check_state_names},
      {"optimizer.updates", 3, "an update changes parameters in place", check_updates},
      {"optimizer.still", 3, "lr 0 changes nothing", check_still},
      {"optimizer.scheduled_rate", 3, "the rate of the update is used", check_scheduled_rate},
      {"optimizer.resume", 3, "saved state restores the trajectory bit for bit", check_resume},
      {"optimizer.eval_point", 3, "the point that is the result is made of the state alone",
       check_eval_point},
      {"optimizer.grouping", 3, "grouping parameters changes nothing", check_grouping},
      {"optimizer.descent", 3, "steps lower a quadratic", check_descent},
      {"optimizer.shapes", 3, "parameters of any shape and dtype are updated, empty ones too",
       check_shapes},
  };
  return kChecks;
}

}  // namespace espalier::conformance

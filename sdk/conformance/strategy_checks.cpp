// What a trainer relies on in a ParallelStrategy: some ranks compute what one would, every
// parameter has its place, and a world of one is as if there were no strategy.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <mutex>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/conformance/small_model.h"
#include "espalier/conformance/thread_world.h"
#include "espalier/ops/cross_entropy.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier::conformance {
namespace {

constexpr std::int64_t kRows = 6;  // of a step; 1, 2 and 3 shares of it are equal
constexpr std::int64_t kLength = 5;
constexpr int kSteps = 3;
constexpr double kRate = 0.05;
constexpr double kRounding = 2e-5;  // sums in another order, over some steps

/// What a rank ends with.
struct Training {
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<at::Tensor> values;  // of all parameters, whole
  std::vector<ParameterLayout> layouts;
};

/// Loss and gradients of rows [begin, begin + count), divided by `weight`.
double backward(Model& model, std::uint64_t seed, int step, std::int64_t begin, std::int64_t count,
                double weight) {
  const at::Tensor ids = random_integers({kRows, kLength}, kSmallVocabulary, seed,
                                         100 + static_cast<std::uint64_t>(step))
                             .narrow(0, begin, count)
                             .contiguous();
  const ModelOutput output = model.forward({{{"input_ids", ids}}});
  const auto scope = model.head().scope();
  const at::Tensor labels = shift_labels(output.layout, ids);
  const at::Tensor loss = ops::cross_entropy(model.head().project(output.hidden), labels) / weight;
  loss.backward();
  return loss.item<double>();
}

double weight_of_step() { return static_cast<double>(kRows * (kLength - 1)); }

void update(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : parameters) {
    at::Tensor value = parameter->value();
    if (!value.grad().defined()) continue;
    value.add_(value.grad(), -kRate);
    value.mutable_grad().reset();
  }
}

Training train_alone(const Subject& subject) {
  Training outcome;
  const auto model = small_model(subject.seed);
  const auto& parameters = model->parts().parameters;
  for (int step = 0; step < kSteps; ++step) {
    outcome.losses.push_back(backward(*model, subject.seed, step, 0, kRows, weight_of_step()));
    outcome.norms.push_back(local_gradient_norm(parameters));
    update(parameters);
  }
  for (const auto& parameter : parameters) outcome.values.push_back(parameter->value().detach());
  return outcome;
}

Training train_as_rank(const Subject& subject, World& world) {
  Training outcome;
  const auto strategy = subject.create<ParallelStrategy>();
  strategy->set_up(world);
  const auto model = small_model(subject.seed);
  ProblemList problems;
  strategy->check(*model, problems);
  problems.throw_if_any();
  strategy->apply(*model);
  const auto& parameters = model->parts().parameters;
  const DataShare share = strategy->data_share();
  if (share.count < 1 || kRows % share.count != 0)
    throw Error({ErrorCode::kCheckFailed,
                 "data_share() cuts a step into a strange number of shares",
                 std::to_string(share.count),
                 "a divisor of the number of ranks",
                 {},
                 {}});
  const std::int64_t count = kRows / share.count;
  for (int step = 0; step < kSteps; ++step) {
    // Two micro-batches, so that gradients are kept back once.
    const std::int64_t first = (count + 1) / 2;
    at::Tensor loss = at::zeros({1}, at::kDouble);
    strategy->begin_micro_batch(count == first);
    loss += backward(*model, subject.seed, step, share.index * count, first, weight_of_step());
    if (count > first) {
      strategy->begin_micro_batch(true);
      loss += backward(*model, subject.seed, step, share.index * count + first, count - first,
                       weight_of_step());
    }
    strategy->finish_gradients(*model);
    strategy->sum_over_data(loss);
    outcome.losses.push_back(loss.item<double>());
    outcome.norms.push_back(strategy->gradient_norm(parameters));
    update(parameters);
    strategy->parameters_changed();
  }
  for (const auto& parameter : parameters) {
    outcome.values.push_back(strategy->full_value(*parameter).detach().clone());
    if (!strategy->whole(*parameter, parameter->value().detach()).equal(outcome.values.back()))
      throw Error({ErrorCode::kCheckFailed,
                   "whole() of what a rank holds of '" + parameter->name() + "' is another value",
                   {},
                   "full_value() of the parameter",
                   {},
                   {}});
    outcome.layouts.push_back(strategy->layout(*parameter));
  }
  return outcome;
}

std::vector<Training> train_as_world(const Subject& subject, int size) {
  std::vector<Training> outcomes(static_cast<std::size_t>(size));
  ThreadWorld(size).run([&](World& world) {
    outcomes[static_cast<std::size_t>(world.rank())] = train_as_rank(subject, world);
  });
  return outcomes;
}

void compare_numbers(Report& report, const std::string& what, double actual, double expected,
                     const std::string& hint) {
  if (std::abs(actual - expected) <= kRounding * std::max(1.0, std::abs(expected))) return;
  report.fail(what, number_text(actual), number_text(expected), hint);
}

void compare_outcomes(Report& report, const std::string& where, const Training& actual,
                      const Training& expected) {
  for (int step = 0; step < kSteps; ++step) {
    const auto i = static_cast<std::size_t>(step);
    const std::string at = where + ", step " + std::to_string(step + 1);
    compare_numbers(report, at + ": another loss than one process", actual.losses[i],
                    expected.losses[i], "sum_over_data adds up over ranks with different rows");
    compare_numbers(report, at + ": another gradient norm than one process", actual.norms[i],
                    expected.norms[i],
                    "every element of the model counts once, whatever ranks hold it, and "
                    "its gradient is a sum over ranks");
    if (report.outcome() == Outcome::kFail) return;
  }
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    expect_close(report, where + ": parameter " + std::to_string(i) + " ends elsewhere",
                 actual.values[i], expected.values[i], kRounding * 10,
                 "after finish_gradients a parameter holds the gradient of the whole step: a sum "
                 "over ranks, not a mean");
    if (report.outcome() == Outcome::kFail) return;
  }
}

void check_alone(const Subject& subject, Report& report) {
  compare_outcomes(report, "a world of one", train_as_world(subject, 1)[0], train_alone(subject));
}

void check_ranks(const Subject& subject, Report& report) {
  const Training expected = train_alone(subject);
  for (const int size : {2, 3}) {
    const auto outcomes = train_as_world(subject, size);
    for (int rank = 0; rank < size; ++rank) {
      compare_outcomes(report, "rank " + std::to_string(rank) + " of " + std::to_string(size),
                       outcomes[static_cast<std::size_t>(rank)], expected);
      if (report.outcome() == Outcome::kFail) return;
    }
  }
}

void check_layout(const Subject& subject, Report& report) {
  for (const int size : {1, 2, 3}) {
    const auto outcomes = train_as_world(subject, size);
    for (std::size_t i = 0; i < outcomes[0].values.size(); ++i) {
      const at::Tensor count = at::zeros(outcomes[0].values[i].sizes(), at::kInt);
      for (const Training& rank : outcomes) {
        if (!rank.layouts[i].writes) continue;
        for (const ShardPiece& piece : rank.layouts[i].pieces) {
          at::Tensor box = count;
          for (std::size_t d = 0; d < piece.extent.size(); ++d)
            box = box.narrow(static_cast<std::int64_t>(d), piece.offset[d], piece.extent[d]);
          box.add_(1);
        }
      }
      if (count.eq(1).all().item<bool>()) continue;
      return report.fail(
          "with " + std::to_string(size) + " ranks parameter " + std::to_string(i) +
              " is not written once",
          count.min().item<int>() == 0 ? "elements that no rank writes"
                                       : "elements that several ranks write",
          "every element by one rank",
          "layout() gives the boxes that a rank holds; of ranks that hold the same, one writes");
    }
  }
}

}  // namespace

std::span<const Check> strategy_checks() {
  static constexpr Check kChecks[] = {
      {"strategy.alone", 3, "a world of one trains as without a strategy", check_alone},
      {"strategy.ranks", 3, "two and three ranks have the loss, norm and weights of one process",
       check_ranks},
      {"strategy.layout", 3, "every element of every parameter is written by one rank",
       check_layout},
  };
  return kChecks;
}

}  // namespace espalier::conformance

// A schedule is a closed function of the step: resuming needs no state.
#include <cmath>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/sdk/lr_scheduler.h"

namespace espalier::conformance {
namespace {

constexpr double kBase = 1e-3;

void check_finite(const Subject& subject, Report& report) {
  const auto schedule = subject.create<LrScheduler>();
  for (const std::int64_t total : {std::int64_t{1}, std::int64_t{2}, std::int64_t{1000}}) {
    for (const std::int64_t step : {std::int64_t{0}, total / 3, total - 1, total, 2 * total + 7}) {
      const double lr = schedule->lr(step, kBase, total);
      if (std::isfinite(lr) && lr >= 0) continue;
      return report.fail("the rate of step " + std::to_string(step) + " of " +
                             std::to_string(total) + " is no rate",
                         number_text(lr), "a finite number that is not negative",
                         "steps beyond the end occur when a run is prolonged");
    }
  }
}

void check_pure(const Subject& subject, Report& report) {
  const auto schedule = subject.create<LrScheduler>();
  std::vector<double> rising;
  for (std::int64_t step = 0; step < 50; ++step) rising.push_back(schedule->lr(step, kBase, 50));
  const auto other = subject.create<LrScheduler>();
  for (std::int64_t step = 49; step >= 0; --step) {
    const double lr = other->lr(step, kBase, 50);
    if (lr == rising[static_cast<std::size_t>(step)]) continue;
    return report.fail("the rate of step " + std::to_string(step) + " depends on earlier calls",
                       number_text(lr), number_text(rising[static_cast<std::size_t>(step)]),
                       "compute it from the arguments alone: a resumed run starts in the middle");
  }
}

void check_used(const Subject& subject, Report& report) {
  const auto schedule = subject.create<LrScheduler>();
  for (std::int64_t step = 0; step < 50; ++step) {
    if (schedule->lr(step, kBase, 50) != schedule->lr(step, 2 * kBase, 50)) return;
  }
  report.fail("the base rate changes no step", {}, "rates that follow base_lr",
              "multiply base_lr, which is the optimizer's lr");
}

}  // namespace

std::span<const Check> schedule_checks() {
  static constexpr Check kChecks[] = {
      {"lr_scheduler.finite", 3, "every step of runs of any length has a rate", check_finite},
      {"lr_scheduler.pure", 3, "the rate depends on the arguments alone", check_pure},
      {"lr_scheduler.base", 3, "the optimizer's rate is the measure", check_used},
  };
  return kChecks;
}

}  // namespace espalier::conformance

// Warm-up, then the inverse square root of the step. Vaswani et al. 2017, "Attention Is All You Need".
#include <espalier/base/config_schema.h>
#include <espalier/sdk/lr_scheduler.h>
#include <espalier/sdk/plugin.h>

#include <cmath>

namespace {

struct {{Name}}Config {
  std::int64_t warmup_steps = 100;

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>()
        .field("warmup_steps", &{{Name}}Config::warmup_steps, "steps until the rate is the optimizer's")
        .at_least(1);
  }
};

class {{Name}} final : public espalier::LrScheduler {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(const Config& config) : config_(config) {}

  // From the arguments alone: a resumed run starts in the middle.
  double lr(std::int64_t step, double base_lr, std::int64_t) const override {
    const double warmup = static_cast<double>(config_.warmup_steps);
    const double now = static_cast<double>(step) + 1;
    return base_lr * std::min(now / warmup, std::sqrt(warmup / now));
  }

 private:
  Config config_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::LrScheduler, {{Name}}>("{{name}}", "warm-up, then 1 / sqrt(step)");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)

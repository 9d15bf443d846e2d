#include "espalier/sdk/plugin.h"
#include "interfaces.h"

namespace espalier::testing {
namespace {

struct LinesConfig {
  std::string path;
  std::optional<std::int64_t> limit;
  std::vector<ComponentConfig> mixed_with;

  static ConfigSchema<LinesConfig> schema() {
    return ConfigSchema<LinesConfig>()
        .field("path", &LinesConfig::path, "the file with the samples")
        .required()
        .field("limit", &LinesConfig::limit, "use that many samples")
        .at_least(1)
        .field("mixed_with", &LinesConfig::mixed_with, "further datasets")
        .component("Dataset");
  }
};

class Lines : public Dataset {
 public:
  using Config = LinesConfig;
  explicit Lines(LinesConfig config) : path_(std::move(config.path)) {}
  std::string describe() const override { return "lines of " + path_; }

 private:
  std::string path_;
};

struct WarmupConfig {
  std::int64_t steps = 10;
  double start = 0.1;

  static ConfigSchema<WarmupConfig> schema() {
    return ConfigSchema<WarmupConfig>()
        .field("steps", &WarmupConfig::steps, "steps of warm-up")
        .at_least(0)
        .field("start", &WarmupConfig::start, "first factor")
        .more_than(0)
        .at_most(1);
  }
};

struct DescentConfig {
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.999};
  WarmupConfig warmup;

  static ConfigSchema<DescentConfig> schema() {
    return ConfigSchema<DescentConfig>()
        .field("lr", &DescentConfig::lr, "learning rate")
        .more_than(0)
        .field("betas", &DescentConfig::betas, "decay of the moments")
        .length(2)
        .field("warmup", &DescentConfig::warmup, "how the rate starts");
  }
};

class Descent : public Optimizer {
 public:
  using Config = DescentConfig;
  explicit Descent(const DescentConfig& config) : lr_(config.lr) {}
  std::string describe() const override { return "descent by " + std::to_string(lr_); }

 private:
  double lr_;
};

struct Nothing : Objective, LrScheduler, ParallelStrategy {
  std::string describe() const override { return "nothing"; }
};

void register_components(Registrar& registrar) {
  registrar.require("zoo.losses >= 1.0, < 2");
  registrar.add<Dataset, Lines>("lines", "Samples from the lines of a file.")
      .serves("formats", {"txt", "jsonl"});
  registrar.add<Optimizer, Descent>("descent", "Goes downhill.")
      .property("default_for", "optimizer");
  registrar.add<Objective, Nothing>("next_token", "What a step optimises.")
      .property("default_for", "objective");
  registrar.add<LrScheduler, Nothing>("flat", "No change of the rate.")
      .property("default_for", "lr_scheduler");
  registrar.add<ParallelStrategy, Nothing>("alone", "One process.")
      .property("default_for", "distributed");
}

}  // namespace
}  // namespace espalier::testing

ESPALIER_PLUGIN("zoo.training", "0.3.1", espalier::testing::register_components)

#include <map>
#include <optional>

#include "espalier/sdk/plugin.h"
#include "interfaces.h"

namespace espalier::testing {
namespace {

struct FocalConfig {
  double gamma = 2.0;
  std::int64_t ignore_index = -100;
  std::string reduction = "mean";
  std::vector<double> weights{1.0, 2.0};
  bool fused = false;
  std::map<std::string, double> per_class;

  static ConfigSchema<FocalConfig> schema() {
    return ConfigSchema<FocalConfig>()
        .field("gamma", &FocalConfig::gamma, "how much easy tokens are discounted")
        .at_least(0)
        .at_most(5)
        .field("ignore_index", &FocalConfig::ignore_index, "label that does not count")
        .at_most(-1)
        .field("reduction", &FocalConfig::reduction, "how the terms are added up")
        .one_of({"mean", "sum"})
        .field("weights", &FocalConfig::weights, "two weights")
        .length(2)
        .field("fused", &FocalConfig::fused, "one pass over the logits")
        .field("per_class", &FocalConfig::per_class, "a factor for each class");
  }
};

class FocalLoss : public Loss {
 public:
  using Config = FocalConfig;
  explicit FocalLoss(FocalConfig config) : config_(std::move(config)) {}
  std::string describe() const override {
    return "focal with gamma " + std::to_string(config_.gamma);
  }

 private:
  FocalConfig config_;
};

class PlainLoss : public Loss {
 public:
  std::string describe() const override { return "plain"; }
};

int shutdowns = 0;

void register_components(Registrar& registrar) {
  registrar.license("Apache-2.0");
  registrar.add<Loss, FocalLoss>("focal", "A loss that prefers hard tokens.")
      .alias("reference.losses.FocalLoss", [] {
        Table keys;
        keys.set("gamma_value", "gamma");
        return keys;
      }());
  registrar.add<Loss, PlainLoss>("plain", "A loss without settings.")
      .property("default_for", "loss_fn");
}

void shut_down() { ++shutdowns; }

}  // namespace
}  // namespace espalier::testing

ESPALIER_PLUGIN("zoo.losses", "1.2.0", espalier::testing::register_components,
                espalier::testing::shut_down)

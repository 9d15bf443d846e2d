// Weights of linears as 8-bit integers, a quarter of the memory of float32. Weights alone: products
// are computed in the model's dtype.
#include <fnmatch.h>

#include <algorithm>

#include "espalier/nn/quantizer.h"
#include "espalier/sdk/plugin.h"
#include "int8_weight.h"

namespace espalier {
namespace {

struct Int8Config {
  std::vector<std::string> skip_modules;

  static ConfigSchema<Int8Config> schema() {
    return ConfigSchema<Int8Config>().field(
        "skip_modules", &Int8Config::skip_modules,
        "linears that stay as they are, by names with '*' and '?'");
  }
};

class Int8 final : public Quantizer {
 public:
  using Config = Int8Config;
  explicit Int8(Int8Config config) : config_(std::move(config)) {}

  std::unique_ptr<nn::WeightStorage> hold(nn::Linear& linear,
                                          const at::Tensor& weight) const override {
    const bool skipped = std::any_of(
        config_.skip_modules.begin(), config_.skip_modules.end(), [&](const std::string& pattern) {
          return ::fnmatch(pattern.c_str(), linear.name().c_str(), 0) == 0;
        });
    if (skipped) return nullptr;
    return std::make_unique<Int8Weight>(linear.weight(), weight);
  }
  bool holds_without_values() const override { return true; }

 private:
  Int8Config config_;
};

void register_components(Registrar& registrar) {
  registrar.add<Quantizer, Int8>("int8",
                                 "weights of linears in 8 bits, a scale for each output channel");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.int8", "0.1.0", espalier::register_components)

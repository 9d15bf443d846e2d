// Random tokens, for measuring speed without data.
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/random.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct MockConfig {
  std::int64_t seq_length = 512;
  std::optional<std::int64_t> min_length;
  std::int64_t num_samples = 10000;
  std::optional<std::int64_t> vocab_size;
  std::int64_t seed = 0;

  static ConfigSchema<MockConfig> schema() {
    return ConfigSchema<MockConfig>()
        .field("seq_length", &MockConfig::seq_length, "tokens of a sample")
        .at_least(2)
        .field("min_length", &MockConfig::min_length,
               "lengths are drawn evenly from this to seq_length; left out: all are equal")
        .at_least(2)
        .field("num_samples", &MockConfig::num_samples, "samples of an epoch")
        .at_least(1)
        .field("vocab_size", &MockConfig::vocab_size,
               "ids are below this; left out: the tokenizer's number of ids")
        .at_least(1)
        .field("seed", &MockConfig::seed, "which random tokens")
        .at_least(0);
  }
};

/// Sample i is a function of the seed and i. All tokens are learnt.
class Mock final : public Dataset {
 public:
  using Config = MockConfig;
  explicit Mock(const Config& config) : config_(config) {}

  void open(const DatasetContext& context) override {
    if (!config_.vocab_size && context.tokenizer == nullptr) {
      throw_bad_input("the model has no tokenizer that tells the number of ids", {},
                      "vocab_size = ...", "the dataset's section of the recipe");
    }
    if (config_.min_length.value_or(0) > config_.seq_length) {
      throw_bad_input("min_length is above seq_length", std::to_string(*config_.min_length),
                      "at most " + std::to_string(config_.seq_length),
                      "the dataset's section of the recipe");
    }
    ids_ = static_cast<std::uint64_t>(config_.vocab_size ? *config_.vocab_size
                                                         : context.tokenizer->vocab_size());
  }
  std::int64_t size() const override { return config_.num_samples; }

  Sample get(std::int64_t index) const override {
    ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
    const CounterRandom random(static_cast<std::uint64_t>(config_.seed),
                               static_cast<std::uint64_t>(index));
    std::int64_t length = config_.seq_length;
    if (config_.min_length) {
      const std::int64_t choices = config_.seq_length - *config_.min_length + 1;
      length = *config_.min_length +
               static_cast<std::int64_t>(random.below(0, static_cast<std::uint64_t>(choices)));
    }
    Sample sample;
    for (std::int64_t i = 1; i <= length; ++i)
      sample.input_ids.push_back(
          static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(i), ids_)));
    sample.labels = sample.input_ids;
    return sample;
  }

 private:
  MockConfig config_;
  std::uint64_t ids_ = 1;
};

void register_components(Registrar& registrar) {
  registrar.add<Dataset, Mock>("mock", "random tokens, for measuring speed")
      .alias("nemo_automodel.components.datasets.llm.mock_iterable_dataset.MockIterableDataset",
             parse_json(R"({"seq_len": "seq_length",
                            "batch_size": {"note": "step_scheduler.local_batch_size counts"}})")
                 .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.mock", "0.1.0", espalier::register_components)

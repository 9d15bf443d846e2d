#include "support/rank_training.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <optional>

#include "engine/run/freezing.h"
#include "engine/run/weight_source.h"
#include "engine/train/train_step.h"
#include "espalier/base/json.h"
#include "espalier/base/random.h"
#include "espalier/conformance/thread_world.h"
#include "fixture_path.h"

namespace espalier::testing {
namespace {

constexpr std::int64_t kSteps = 4;
constexpr std::int64_t kRows = 5;  // over 2, 3 and 4 ranks: unequal shares
constexpr std::int64_t kAlike = 3;

/// Rows of different lengths and numbers of labels, which begin alike.
class RandomRows final : public Dataset {
 public:
  void open(const DatasetContext&) override {}
  std::int64_t size() const override { return 2 * kRows; }
  Sample get(std::int64_t index) const override {
    const CounterRandom random(3, static_cast<std::uint64_t>(index));
    Sample sample;
    const std::int64_t length = 6 + index % 7;
    for (std::int64_t i = 0; i < length; ++i) {
      const auto drawn =
          static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(i), 250)) + 3;
      const std::int64_t token = i < kAlike ? 90 + 31 * i : drawn;
      sample.input_ids.push_back(token);
      sample.labels.push_back(i % (1 + index % 3) == 0 ? token : kIgnoredLabel);
    }
    return sample;
  }
};

Value options_of(const std::string& text) {
  if (text.starts_with("{")) return parse_json(text);
  Table table;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    const std::size_t equals = item.find('=');
    const std::string value = item.substr(equals + 1);
    if (value == "true" || value == "false")
      table.set(item.substr(0, equals), value == "true");
    else
      table.set(item.substr(0, equals), static_cast<std::int64_t>(std::stoll(value)));
    begin = end + 1;
  }
  return table;
}

double relative(double a, double b) { return std::abs(a - b) / std::abs(b); }

/// The model, with its adapter, whose type is taken out of its settings.
LoadedModel load(ComponentLibrary& library, const RankTraining& setting, bool in_parts,
                 std::shared_ptr<Adapter>& adapter) {
  ModelLoadOptions options;
  options.without_values = in_parts;
  options.dtype = setting.dtype;
  if (!setting.config.empty()) {
    options.config = parse_json(setting.config);
    options.random_weights = true;
  }
  if (!setting.adapter.empty()) {
    Table settings;
    const Value given = parse_json(setting.adapter);
    for (const auto& [key, value] : given.as_table())
      if (key != "type") settings.set(key, value);
    adapter = library.create<Adapter>(given.find("type")->as_string(), settings);
    options.further_adapters.push_back(adapter);
  }
  return library.from_pretrained(fixture_path("models/" + setting.model), options);
}

void expect_close(const RankResult& actual, const RankResult& expected) {
  ASSERT_EQ(actual.losses.size(), expected.losses.size());
  for (std::size_t i = 0; i < expected.losses.size(); ++i)
    EXPECT_LT(relative(actual.losses[i], expected.losses[i]), i == 0 ? 1e-6 : 1e-5) << "loss " << i;
  for (std::size_t i = 0; i < expected.norms.size(); ++i)
    EXPECT_LT(relative(actual.norms[i], expected.norms[i]), 1e-4) << "norm " << i;
  for (const auto& [name, tensor] : expected.weights) {
    const at::Tensor& own = actual.weights.at(name);
    ASSERT_EQ(own.sizes(), tensor.sizes()) << name;
    EXPECT_LT((own - tensor).abs().max().item<double>(), 1e-4 * tensor.abs().max().item<double>())
        << name;
  }
}

/// `making` guards `library`. `world` nullptr: one process without a strategy.
RankResult train_rank(ComponentLibrary& library, std::mutex& making, const RankTraining& setting,
                      World* world) {
  std::unique_lock lock(making);  // a library is for one thread at a time
  std::shared_ptr<Adapter> adapter;
  const bool in_parts = world != nullptr && setting.strategy == "fsdp2";
  LoadedModel loaded = load(library, setting, in_parts, adapter);
  const auto loss = library.create<Loss>(setting.loss, setting.loss_options.empty()
                                                           ? Value(Table())
                                                           : parse_json(setting.loss_options));
  const auto objective = library.create<Objective>("language_modeling");
  const auto schedule = library.create<LrScheduler>("constant");
  // Gradients that are zero but for rounding (biases of keys, biases and matrices that start at
  // zero) would be blown up by Adam.
  const bool plain = setting.model == "gpt2" || setting.model == "qwen2" ||
                     !setting.config.empty() || !setting.adapter.empty();
  Table rate;
  rate.set("lr", 1e-3);
  if (setting.optimizer == "adamw_8bit") {
    rate.set("min_8bit_size", 1024);
    rate.set("block_size", 96);  // no divisor of a row
  }
  const auto rule = setting.optimizer.empty()
                        ? library.create<Optimizer>(plain ? "sgd" : "adamw")
                        : library.create<Optimizer>(setting.optimizer, Value(std::move(rate)));
  std::shared_ptr<ParallelStrategy> strategy;
  if (world != nullptr)
    strategy = library.create<ParallelStrategy>(setting.strategy, options_of(setting.options));
  lock.unlock();

  Model& model = *loaded.model;
  if (!setting.frozen.empty()) {
    config::FreezeConfig freeze;
    freeze.patterns = {setting.frozen};
    freeze_parameters(model, freeze);
  }
  model.set_training(true);
  // Ranks share what rows begin with, and learn what one process does that computes all of it.
  model.set_share_prefixes(world != nullptr &&
                           (adapter == nullptr || !adapter->draws_for_tokens()));
  if (strategy != nullptr) {
    strategy->set_up(*world);
    ProblemList problems;
    strategy->check(model, problems);
    problems.throw_if_any();
    strategy->apply(model);
  }
  const std::shared_ptr<const WeightSource> source = loaded.source;
  if (source != nullptr) read_values(loaded, *strategy);
  std::vector<std::shared_ptr<Parameter>> all = model.parts().parameters;
  if (adapter != nullptr)
    all.insert(all.end(), adapter->parameters().begin(), adapter->parameters().end());
  std::vector<std::shared_ptr<Parameter>> trained;
  for (const auto& parameter : all)
    if (parameter->trainable()) trained.push_back(parameter);
  ParameterOptimizer optimizer(rule, trained, {}, Ranks{strategy.get(), world});
  LoaderOptions options;
  options.rows_per_step = kRows;
  options.rows_per_batch = setting.rows_per_batch;
  if (strategy != nullptr) {
    options.share_index = strategy->data_share().index;
    options.share_count = strategy->data_share().count;
  }
  DataLoader loader(std::make_shared<RandomRows>(), options);
  const TrainingParts parts{model,          *objective, *loss,  optimizer,     *schedule,
                            strategy.get(), 0.3,        kSteps, adapter.get(), 11};
  RankResult result;
  if (source != nullptr) result.bytes_read = source->bytes_read();
  result.state_bytes = optimizer.state_bytes();
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    const StepMetrics metrics = train_step(parts, loader.next(), step);
    result.losses.push_back(metrics.loss);
    result.norms.push_back(metrics.grad_norm);
    // Validation between steps has to leave training as it is.
    if (step == 2) result.losses.push_back(evaluate(parts, loader.next().batches).loss);
  }
  const std::size_t own = model.parts().parameters.size();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const at::Tensor whole = strategy == nullptr ? all[i]->value() : strategy->full_value(*all[i]);
    result.own_elements += i < own ? all[i]->value().numel() : 0;
    result.whole_elements += i < own ? whole.numel() : 0;
    result.weights.emplace(all[i]->name(), whole.detach().clone());
  }
  return result;
}

}  // namespace

void PrintTo(const RankTraining& setting, std::ostream* out) {
  *out << setting.strategy << " {" << setting.options << "} " << setting.model << setting.config
       << " " << setting.frozen << setting.adapter << " " << setting.loss << setting.loss_options
       << " " << setting.optimizer;
}

std::vector<RankResult> train_ranks(ComponentLibrary& library, const RankTraining& setting,
                                    int ranks) {
  std::mutex making;
  conformance::ThreadWorld world(ranks);
  std::vector<RankResult> results(static_cast<std::size_t>(ranks));
  world.run([&](World& rank) {
    at::set_num_threads(1);
    results[static_cast<std::size_t>(rank.rank())] = train_rank(library, making, setting, &rank);
  });
  return results;
}

RankComparison expect_same_training(const RankTraining& setting, int ranks) {
  at::set_num_threads(1);
  ComponentLibrary library;
  std::mutex making;
  RankComparison comparison{train_rank(library, making, setting, nullptr),
                            train_ranks(library, setting, ranks)};
  for (const RankResult& result : comparison.ranks) expect_close(result, comparison.alone);
  return comparison;
}

}  // namespace espalier::testing

// What a step of full fine-tuning is made of: matrix products against forward and backward pass,
// and the optimizer against the memory's bandwidth.
//
//   build/release/bin/step_shares_bench MODEL_FOLDER [TOKENS [ROW_LENGTH [LOSS]]]
//
// float32, random tokens, every one of them a label. The products are timed alone, on the same
// shapes: for each linear output, gradient of the input, gradient of the weight; those inside of
// attention are not counted. Times are medians of some steps.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "cpu_kernels.h"
#include "engine/data/loader.h"
#include "engine/memory/caching_allocator.h"
#include "engine/run/component_library.h"
#include "engine/train/train_step.h"
#include "espalier/base/random.h"
#include "espalier/nn/linear.h"

namespace espalier {
namespace {

constexpr int kSteps = 5;

class RandomTokens final : public Dataset {
 public:
  RandomTokens(std::int64_t length, std::int64_t vocab) : length_(length), vocab_(vocab) {}
  void open(const DatasetContext&) override {}
  std::int64_t size() const override { return 1 << 20; }
  Sample get(std::int64_t index) const override {
    const CounterRandom random(1, static_cast<std::uint64_t>(index));
    Sample sample;
    for (std::int64_t i = 0; i < length_; ++i)
      sample.input_ids.push_back(static_cast<std::int64_t>(
          random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocab_))));
    sample.labels = sample.input_ids;
    return sample;
  }

 private:
  std::int64_t length_;
  std::int64_t vocab_;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// Seconds of work(), the median of some calls after a first.
template <class Work>
double seconds_of(const Work& work) {
  std::vector<double> seconds;
  for (int i = 0; i <= kSteps; ++i) {
    const double start = now();
    work();
    if (i > 0) seconds.push_back(now() - start);
  }
  return median(seconds);
}

struct Products {
  double seconds = 0;
  double operations = 0;
};

/// The three products of every linear for `rows` rows.
Products products_alone(Model& model, std::int64_t rows) {
  std::map<std::pair<std::int64_t, std::int64_t>, int> shapes;
  for (const nn::Linear* linear : model.parts().linears) {
    const at::Tensor& weight = linear->weight()->value();
    ++shapes[{weight.size(0), weight.size(1)}];
  }
  Products products;
  for (const auto& [shape, count] : shapes) {
    const auto [out, in] = shape;
    const at::Tensor x = at::randn({rows, in});
    const at::Tensor weight = at::randn({out, in});
    const at::Tensor dy = at::randn({rows, out});
    at::Tensor y = at::empty({rows, out});
    at::Tensor dx = at::empty({rows, in});
    at::Tensor dw = at::empty({out, in});
    products.seconds += count * seconds_of([&] {
                          at::mm_out(y, x, weight.t());
                          at::mm_out(dx, dy, weight);
                          at::mm_out(dw, dy.t(), x);
                        });
    products.operations += 6.0 * count * static_cast<double>(rows * out * in);
  }
  return products;
}

/// Bytes a second of a copy of 512 MB, read and written.
double copy_bandwidth() {
  constexpr std::int64_t kElements = 128 << 20;
  const at::Tensor from = at::zeros({kElements});
  const at::Tensor to = at::zeros({kElements});
  return 2.0 * kElements * sizeof(float) / seconds_of([&] { to.copy_(from); });
}

void run(const char* folder, std::int64_t tokens, std::int64_t length, const char* loss_name) {
  ComponentLibrary library;
  use_cpu_kernels(library);
  ModelLoadOptions load;
  load.dtype = "float32";
  const LoadedModel loaded = library.from_pretrained(folder, load);
  Model& model = *loaded.model;
  model.set_training(true);
  std::int64_t parameters = 0;
  for (const auto& parameter : model.parts().parameters) parameters += parameter->value().numel();
  const auto loss = library.create<Loss>(loss_name);
  const auto objective = library.create<Objective>("language_modeling");
  const auto schedule = library.create<LrScheduler>("constant");
  ParameterOptimizer optimizer(library.create<Optimizer>("adamw"), model.parts().parameters);
  LoaderOptions options;
  options.rows_per_step = tokens / length;
  options.rows_per_batch = tokens / length;
  DataLoader loader(
      std::make_shared<RandomTokens>(length, loaded.config.find("vocab_size")->as_int()), options);

  std::vector<double> passes;
  std::vector<double> updates;
  TrainingParts parts{model, *objective, *loss, optimizer, *schedule};
  parts.max_norm = 1.0;
  parts.total_steps = kSteps + 1;
  double at_gradients = 0;
  parts.on_gradients = [&] { at_gradients = now(); };
  for (std::int64_t step = 1; step <= kSteps + 1; ++step) {
    const StepBatches batches = loader.next();
    const double begun = now();
    train_step(parts, batches, step);
    if (step == 1) continue;  // makes the state
    passes.push_back(at_gradients - begun);
    updates.push_back(now() - at_gradients);
  }
  optimizer.clear_gradients();
  const Products products = products_alone(model, tokens);
  const double bandwidth = copy_bandwidth();
  // Value, gradient and two moments read, value and moments written; the norm reads the gradient.
  const double bytes = 8.0 * sizeof(float) * static_cast<double>(parameters);
  std::printf(
      "%lld parameters, %lld tokens in rows of %lld, %s, %d threads\n"
      "forward and backward  %8.3f s\n"
      "products alone        %8.3f s, %.0f GFLOP/s: %.1f %% of forward and backward\n"
      "norm and AdamW        %8.3f s, %.1f GB/s: %.1f %% of a copy's %.1f GB/s\n",
      static_cast<long long>(parameters), static_cast<long long>(tokens),
      static_cast<long long>(length), loss_name, at::get_num_threads(), median(passes),
      products.seconds, products.operations / products.seconds / 1e9,
      100 * products.seconds / median(passes), median(updates), bytes / median(updates) / 1e9,
      100 * bytes / median(updates) / bandwidth, bandwidth / 1e9);
}

}  // namespace
}  // namespace espalier

int main(int count, char** arguments) try {
  if (count < 2) {
    std::fprintf(stderr, "step_shares_bench MODEL_FOLDER [TOKENS [ROW_LENGTH [LOSS]]]\n");
    return 2;
  }
  espalier::CachingAllocator::install();
  espalier::run(arguments[1], count > 2 ? std::atoll(arguments[2]) : 4096,
                count > 3 ? std::atoll(arguments[3]) : 512,
                count > 4 ? arguments[4] : "masked_cross_entropy");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

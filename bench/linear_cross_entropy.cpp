// Output projection and cross entropy, forward and backward: as two ops over all rows, and fused.
//
//   build/release/bin/linear_cross_entropy_bench [WIDTH [ROWS [CHUNK_MEGABYTES]]]
//
// Prints Markdown: time of the fastest of some passes, and the most memory that was there at once
// beyond the tensors given, without and with the weight's gradient, which has the weight's size.
#include <ATen/TensorOperators.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "cpu_kernels.h"
#include "engine/memory/caching_allocator.h"
#include "engine/run/component_library.h"
#include "espalier/base/error.h"
#include "espalier/nn/linear.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/loss.h"

namespace espalier {
namespace {

constexpr int kPasses = 5;

/// A plain output projection.
class PlainHead final : public Head {
 public:
  PlainHead(std::int64_t vocab, std::int64_t width, bool trainable) {
    const nn::LinearSpec spec{{{{"vocab", vocab, 1}}}, {{{"embed", width, 1}}}, /*bias=*/false};
    linear_ = std::make_unique<nn::Linear>(nn::ModuleScope(parts_, block_, "head"), spec);
    linear_->weight()->set_trainable(trainable);
    linear_->weight()->set_value(at::randn({vocab, width}) * 0.05);
  }
  std::int64_t vocab_size() const override { return linear_->weight()->value().size(0); }
  std::shared_ptr<void> scope() override { return nullptr; }
  at::Tensor project(const at::Tensor& rows) override { return linear_->forward(rows); }
  nn::Linear& linear() override { return *linear_; }

 private:
  ModelParts parts_;
  std::vector<std::shared_ptr<Parameter>> block_;
  std::unique_ptr<nn::Linear> linear_;
};

struct Result {
  double seconds = 1e9;
  double megabytes = 0;
  double loss = 0;
};

template <class Pass>
Result measure(PlainHead& head, const at::Tensor& values, const Pass& pass) {
  Result result;
  for (int i = 0; i < kPasses; ++i) {
    const at::Tensor hidden = values.clone().requires_grad_(true);
    CachingAllocator& allocator = CachingAllocator::instance();
    const std::int64_t before = allocator.use().total();
    allocator.reset_peaks();
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor loss = pass(hidden);
    loss.backward();
    result.seconds =
        std::min(result.seconds,
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    result.megabytes = static_cast<double>(allocator.use().total_peak - before) / 1e6;
    result.loss = loss.item<double>();
    if (head.linear().weight()->trainable()) head.linear().weight()->value().mutable_grad().reset();
  }
  return result;
}

void row(const Result& result, const Result& unfused) {
  std::printf(" | %.0f ms, %.0f MB, %.2f x", result.seconds * 1e3, result.megabytes,
              unfused.seconds / result.seconds);
  if (std::abs(result.loss - unfused.loss) > 1e-4 * std::abs(unfused.loss))
    std::printf(" (LOSS DIFFERS: %.6g and %.6g)", result.loss, unfused.loss);
}

void compare(ComponentLibrary& library, std::int64_t vocab, std::int64_t width, std::int64_t rows,
             double ignored, bool trainable, const Value& fused_config) {
  PlainHead head(vocab, width, trainable);
  const at::Tensor values = at::randn({rows, width});
  at::Tensor labels = at::randint(0, vocab, {rows}, at::kLong);
  labels.masked_fill_(at::rand({rows}).lt(ignored), kIgnoredLabel);
  const auto plain = library.create<Loss>("masked_cross_entropy");
  const auto fused = library.create<Loss>("fused_linear_cross_entropy", fused_config);
  const Result unfused = measure(head, values, [&](const at::Tensor& hidden) {
    return plain->from_logits(head.project(hidden), labels);
  });
  std::printf("| %lld | %.0f %% | %s", static_cast<long long>(vocab), ignored * 100,
              trainable ? "yes" : "no");
  row(unfused, unfused);
  row(measure(head, values,
              [&](const at::Tensor& hidden) { return plain->from_hidden(hidden, labels, head); }),
      unfused);
  row(measure(head, values,
              [&](const at::Tensor& hidden) { return fused->from_hidden(hidden, labels, head); }),
      unfused);
  std::puts(" |");
  std::fflush(stdout);
}

}  // namespace
}  // namespace espalier

int main(int count, char** arguments) try {
  using namespace espalier;
  CachingAllocator::install();
  const std::int64_t width = count > 1 ? std::atoll(arguments[1]) : 576;
  const std::int64_t rows = count > 2 ? std::atoll(arguments[2]) : 2048;
  Table fused;
  if (count > 3) fused.set("chunk_megabytes", std::int64_t{std::atoll(arguments[3])});
  ComponentLibrary library;
  use_cpu_kernels(library);
  std::printf(
      "%lld rows of %lld; times of head + cross entropy over all rows\n\n"
      "| vocabulary | ignored | weight trained | head + cross entropy | masked_cross_entropy "
      "| fused_linear_cross_entropy |\n|---|---|---|---|---|---|\n",
      static_cast<long long>(rows), static_cast<long long>(width));
  for (const std::int64_t vocab : {49152, 151936}) {
    for (const double ignored : {0.0, 0.7}) {
      for (const bool trainable : {false, true})
        compare(library, vocab, width, rows, ignored, trainable, Value(fused));
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

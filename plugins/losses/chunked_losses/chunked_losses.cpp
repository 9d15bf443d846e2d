// Cross entropies that keep less in memory than all logits in float32.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/base/json.h"
#include "espalier/ops/cross_entropy_config.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/plugin.h"
#include "fused_linear.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Cross entropy of logits in chunks of rows. The logits are kept in their own dtype, float32
/// copies live for one chunk; the backward pass computes each chunk anew.
struct ChunkedRows : torch::autograd::Function<ChunkedRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits,
                            const at::Tensor& labels, const ops::CrossEntropyOptions& options,
                            const AxisShare* share, std::int64_t chunk) {
    context->save_for_backward({logits, labels});
    context->saved_data["share"] = reinterpret_cast<std::int64_t>(share);
    context->saved_data["numbers"] =
        std::vector<double>{options.label_smoothing, options.z_loss, options.soft_cap};
    context->saved_data["chunk"] = chunk;
    double sum = 0;
    for (std::int64_t begin = 0; begin < logits.size(0); begin += chunk) {
      const std::int64_t count = std::min(chunk, logits.size(0) - begin);
      sum += ops::cross_entropy(logits.narrow(0, begin, count), labels.narrow(0, begin, count),
                                options, share)
                 .item<double>();
    }
    return at::zeros({}, at::TensorOptions().dtype(at::kFloat)).fill_(sum);
  }

  static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor logits = saved[0].detach();
    const at::Tensor& labels = saved[1];
    const auto numbers = context->saved_data["numbers"].toDoubleVector();
    const ops::CrossEntropyOptions options{numbers[0], numbers[1], numbers[2]};
    const std::int64_t chunk = context->saved_data["chunk"].toInt();
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what autograd saves holds no pointers
    const auto* share = reinterpret_cast<const AxisShare*>(context->saved_data["share"].toInt());
    at::Tensor gradient = at::empty_like(logits);
    const at::AutoGradMode recording(true);
    for (std::int64_t begin = 0; begin < logits.size(0); begin += chunk) {
      const std::int64_t count = std::min(chunk, logits.size(0) - begin);
      const at::Tensor rows = logits.narrow(0, begin, count).detach().set_requires_grad(true);
      const at::Tensor loss =
          ops::cross_entropy(rows, labels.narrow(0, begin, count), options, share);
      const at::Tensor part =
          torch::autograd::grad({loss}, {rows}, {grad_outputs[0].to(at::kFloat)}).at(0);
      gradient.narrow(0, begin, count).copy_(part);
    }
    return {gradient, {}, {}, {}, {}};
  }
};

struct ChunkedConfig : ops::CrossEntropyConfig {
  std::int64_t chunk_len = 32;

  static ConfigSchema<ChunkedConfig> schema() {
    return std::move(ops::cross_entropy_schema<ChunkedConfig>()
                         .field("chunk_len", &ChunkedConfig::chunk_len, "rows at a time")
                         .at_least(1));
  }
};

/// The rows that count.
at::Tensor labelled_rows(const at::Tensor& labels) {
  return labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
}

class ChunkedCrossEntropy final : public Loss {
 public:
  using Config = ChunkedConfig;
  explicit ChunkedCrossEntropy(const ChunkedConfig& config) : config_(config) {}

  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    const at::Tensor rows = labelled_rows(config_.counted(labels));
    return in_chunks(head.project_share(hidden.index_select(0, rows)), labels.index_select(0, rows),
                     head.share());
  }
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return in_chunks(logits, labels, nullptr);
  }

 private:
  at::Tensor in_chunks(const at::Tensor& logits, const at::Tensor& labels, const AxisShare* share) {
    return ChunkedRows::apply(logits, config_.counted(labels), config_.options(), share,
                              config_.chunk_len);
  }

  ChunkedConfig config_;
};

struct FusedConfig : ops::CrossEntropyConfig {
  std::int64_t chunk_megabytes = 512;

  static ConfigSchema<FusedConfig> schema() {
    return std::move(
        ops::cross_entropy_schema<FusedConfig>()
            .field(
                "chunk_megabytes", &FusedConfig::chunk_megabytes,
                "memory of the float32 logits that are there at a time where the output projection "
                "is trained, adapted or followed by a soft cap; otherwise 16 MB are")
            .at_least(1));
  }
};

class FusedLinearCrossEntropy final : public Loss {
 public:
  using Config = FusedConfig;
  explicit FusedLinearCrossEntropy(const FusedConfig& config) : config_(config) {}

  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    const at::Tensor counted = config_.counted(labels);
    const at::Tensor rows = labelled_rows(counted);
    return fused_linear_cross_entropy(hidden.index_select(0, rows), counted.index_select(0, rows),
                                      head, config_.options(), config_.chunk_megabytes * 1'000'000);
  }
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return ops::cross_entropy(logits, config_.counted(labels), config_.options());
  }

 private:
  FusedConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Loss, ChunkedCrossEntropy>("chunked_cross_entropy",
                                      "cross entropy a few rows at a time, logits whole")
      .alias("nemo_automodel.components.loss.chunked_ce.ChunkedCrossEntropy",
             parse_json(R"({"reduction": {"only": "sum"},
                            "compile": {"note": "nothing is compiled"}})")
                 .as_table());
  registrar
      .add<Loss, FusedLinearCrossEntropy>(
          "fused_linear_cross_entropy",
          "output projection and cross entropy in one, no whole logits")
      .alias("nemo_automodel.components.loss.linear_ce.FusedLinearCrossEntropy",
             parse_json(R"({"reduction": {"only": "sum"}, "logit_softcapping": "soft_cap"})")
                 .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.chunked_losses", "0.1.0", espalier::register_components)

#include "vocabulary_tiles.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "espalier/ops/softmax_tile.h"

namespace espalier {
namespace {

// Of a CPU: 16 MB of logits and, of a model 1,024 wide, 8 to 32 MB of weights stay near the last
// cache. Blocks of fewer rows slow the products down, by 7 % at 512: each packs the tile anew.
constexpr std::int64_t kRows = 2048;
constexpr std::int64_t kElements = 4 << 20;
constexpr std::int64_t kMostColumns = 8192;

/// What is known of some rows after some tiles; views into tensors of all rows.
struct Running {
  ops::RunningSoftmax softmax;
  at::Tensor weighted;  ///< [rows, embed] sum of exp(logit - maximum) weight; undefined: not wanted

  Running rows(std::int64_t begin, std::int64_t count) const {
    return {{softmax.maximum.narrow(0, begin, count), softmax.sum.narrow(0, begin, count)},
            weighted.defined() ? weighted.narrow(0, begin, count) : at::Tensor()};
  }
};

void add_tile(const Running& rows, const at::Tensor& hidden, const at::Tensor& tile,
              at::Tensor logits) {
  at::mm_out(logits, hidden, tile.t());
  const ops::SoftmaxTile here = ops::softmax_tile(logits, rows.softmax);
  rows.softmax.maximum.copy_(here.running.maximum);
  rows.softmax.sum.copy_(here.running.sum);
  if (!rows.weighted.defined()) return;
  rows.weighted.mul_(here.factor.unsqueeze(1));
  if (tile.scalar_type() == at::kFloat)
    rows.weighted.addmm_(here.values, tile);
  else
    rows.weighted.add_(at::mm(here.values, tile));
}

}  // namespace

TiledCrossEntropy tiled_cross_entropy(const at::Tensor& hidden, const at::Tensor& labels,
                                      const at::Tensor& weight,
                                      const ops::CrossEntropyOptions& options, bool wants_gradient,
                                      std::int64_t bytes) {
  const at::NoGradGuard no_grad;
  const std::int64_t rows = hidden.size(0);
  const std::int64_t vocab = weight.size(0);
  if (rows == 0) return {0, wants_gradient ? hidden.clone() : at::Tensor()};
  const std::int64_t block = hidden.is_cpu() ? std::min(kRows, rows) : rows;
  const std::int64_t most = hidden.is_cpu() ? std::min(kMostColumns, kElements / block) : vocab;
  const std::int64_t columns = std::clamp<std::int64_t>(
      bytes / (block * static_cast<std::int64_t>(sizeof(float))), 1, std::min(most, vocab));
  const at::TensorOptions floats = hidden.options().dtype(at::kFloat).requires_grad(false);
  const Running all{{at::full({rows}, -std::numeric_limits<float>::infinity(), floats),
                     at::zeros({rows}, floats)},
                    wants_gradient ? at::zeros(hidden.sizes(), floats) : at::Tensor()};
  const at::Tensor logits = at::empty({block * columns}, hidden.options().requires_grad(false));
  // Tiles outside: each is read once from memory, whatever the number of rows.
  for (std::int64_t from = 0; from < vocab; from += columns) {
    const at::Tensor tile = weight.narrow(0, from, std::min(columns, vocab - from));
    for (std::int64_t begin = 0; begin < rows; begin += block) {
      const std::int64_t count = std::min(block, rows - begin);
      add_tile(all.rows(begin, count), hidden.narrow(0, begin, count), tile,
               logits.narrow(0, 0, count * tile.size(0)).view({count, tile.size(0)}));
    }
  }
  const double smoothing = options.label_smoothing;
  const at::Tensor of_labels = weight.index_select(0, labels).to(at::kFloat);
  const at::Tensor values = hidden.to(at::kFloat);
  const at::Tensor lse = all.softmax.maximum + at::log(all.softmax.sum);
  at::Tensor loss = lse - (values * of_labels).sum(1) * (1.0 - smoothing);
  at::Tensor mean;  // of the weight's rows: the mean of the logits is hidden x mean
  if (smoothing > 0) {
    mean = weight.mean(at::IntArrayRef{0}, /*keepdim=*/false, at::kFloat);
    loss -= values.matmul(mean) * smoothing;
  }
  if (options.z_loss > 0) loss += lse.square() * options.z_loss;
  TiledCrossEntropy result;
  result.sum = loss.sum(at::kDouble).item<double>();
  if (!wants_gradient) return result;
  // (1 + 2 z lse) sum_v softmax_v weight_v - (1 - e) weight_label - e mean
  at::Tensor gradient = all.weighted;
  gradient.mul_(((lse * (2 * options.z_loss) + 1.0) / all.softmax.sum).unsqueeze(1));
  gradient.sub_(of_labels, 1.0 - smoothing);
  if (smoothing > 0) gradient.sub_(mean, smoothing);
  result.hidden_gradient = gradient.to(hidden.scalar_type());
  return result;
}

}  // namespace espalier

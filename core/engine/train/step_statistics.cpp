#include "engine/train/step_statistics.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "engine/parallel/shard_pieces.h"

namespace espalier {
namespace {

constexpr std::int64_t kNumbers = 4;  // of TensorSums

/// Block after block, as the text of the model reads: "layers.2" before "layers.10".
bool in_model_order(const std::vector<std::string>& blocks, const std::string& a,
                    const std::string& b) {
  const auto place = [&](const std::string& name) {
    return std::find(blocks.begin(), blocks.end(), name) - blocks.begin();
  };
  return place(a) < place(b);
}

}  // namespace

void TensorSums::add(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const at::NoGradGuard no_grad;
  const at::Tensor values = tensor.detach();
  squares += values.to(at::kDouble).square().sum().item<double>();
  largest = std::max(largest, values.abs().max().item<double>());
  zeros += static_cast<double>(values.eq(0).sum().item<std::int64_t>());
  count += static_cast<double>(values.numel());
}

StepStatistics::StepStatistics(Model& model, World& world, const ParallelStrategy* strategy,
                               bool activations)
    : world_(world), strategy_(strategy) {
  for (const Tower& tower : model.towers()) {
    if (tower.prologue != nullptr) blocks_.push_back(tower.prologue->name());
    for (const Block* block : tower.blocks) blocks_.push_back(block->name());
    if (tower.epilogue != nullptr) blocks_.push_back(tower.epilogue->name());
  }
  if (!activations) return;
  observer_.emplace(model,
                    [this](const nn::Linear& linear, const at::Tensor& input, const at::Tensor&) {
                      activations_[block_of(linear.name())].add(input);
                    });
}

/// The block whose name is a part of `name`, which may have a prefix of an adapter; the module
/// itself where there is none (the head).
std::string StepStatistics::block_of(const std::string& name) const {
  for (const std::string& block : blocks_) {
    const std::size_t at = name.find(block);
    if (at == std::string::npos) continue;
    const std::size_t end = at + block.size();
    if ((end == name.size() || name[end] == '.') && (at == 0 || name[at - 1] == '.')) return block;
  }
  return name.ends_with(".weight") || name.ends_with(".bias") ? name.substr(0, name.rfind('.'))
                                                              : name;
}

void StepStatistics::take_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  observer_.reset();
  for (const auto& parameter : parameters) {
    // Every rank adds up the same blocks, whatever it holds of them.
    TensorSums& sums = gradients_[block_of(parameter->name())];
    const at::Tensor& gradient = parameter->value().grad();
    if (!gradient.defined()) continue;
    if (strategy_ == nullptr) {
      sums.add(gradient);
      continue;
    }
    const ParameterLayout layout = strategy_->layout(*parameter);
    if (!layout.writes) continue;  // another rank counts it
    for (const ShardPiece& piece : layout.pieces)
      sums.add(box(gradient, piece.local_offset, piece.extent));
  }
}

void StepStatistics::sum_over_ranks(std::map<std::string, TensorSums>& sums) const {
  const std::int64_t ranks = world_.size();
  if (ranks == 1 || sums.empty()) return;
  const auto groups = static_cast<std::int64_t>(sums.size());
  const at::TensorOptions options = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor own = at::empty({groups * kNumbers}, options);
  double* out = own.data_ptr<double>();
  for (const auto& [block, one] : sums) {
    for (const double number : {one.squares, one.largest, one.zeros, one.count}) *out++ = number;
  }
  const at::Tensor all = at::empty({ranks * groups * kNumbers}, options);
  world_.all()->all_gather(all, own, "statistics")->wait();
  for (auto& [block, one] : sums) one = {};
  const double* in = all.const_data_ptr<double>();
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    for (auto& [block, one] : sums) {
      one.squares += in[0];
      one.largest = std::max(one.largest, in[1]);
      one.zeros += in[2];
      one.count += in[3];
      in += kNumbers;
    }
  }
}

Table StepStatistics::result() {
  sum_over_ranks(gradients_);
  sum_over_ranks(activations_);
  const auto table_of = [&](const std::map<std::string, TensorSums>& sums, bool mean) {
    std::vector<std::string> names;
    for (const auto& [block, one] : sums) {
      if (one.count > 0) names.push_back(block);
    }
    std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
      return in_model_order(blocks_, a, b);
    });
    Table table;
    for (const std::string& name : names) {
      const TensorSums& one = sums.at(name);
      Table entry;
      entry.set(mean ? "rms" : "norm", std::sqrt(mean ? one.squares / one.count : one.squares));
      entry.set("max", one.largest);
      entry.set("zeros", one.zeros / one.count);
      table.set(name, std::move(entry));
    }
    return table;
  };
  Table result;
  result.set("gradients", table_of(gradients_, false));
  if (!activations_.empty()) result.set("activations", table_of(activations_, true));
  return result;
}

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/nn/module_scope.h"
#include "espalier/nn/weight_storage.h"
#include "espalier/sdk/share.h"

namespace espalier::nn {

class Linear;

/// A side of a Linear along which ranks may share it: each then has some of its outputs (rows of
/// the weight), or some of its inputs (columns), where its output is a part of a sum over the ranks
/// and the bias is in that of the first rank alone.
enum class LinearSide { kOutputs, kInputs };

/// What this rank has of a Linear.
struct LinearShare {
  LinearSide side = LinearSide::kOutputs;
  AxisShare axis;
};

/// Adds to what a Linear computes (LoRA, DoRA, ...). Extensions form a chain in the order of
/// attachment; the linears that they are on share them with the adapter. Runs on the thread that
/// runs the model.
class ESPALIER_API LinearExtension {
 public:
  LinearExtension() = default;
  LinearExtension(const LinearExtension&) = delete;
  LinearExtension& operator=(const LinearExtension&) = delete;
  virtual ~LinearExtension();

  /// What goes into the product in place of input [rows, in].
  virtual at::Tensor prepare(const Linear& linear, at::Tensor input);
  /// input [rows, in] as prepared, output [rows, out] so far -> [rows, out].
  virtual at::Tensor apply(const Linear& linear, const at::Tensor& input, at::Tensor output) = 0;
  /// Those that `prepare` and `apply` use beside the linear's own.
  virtual std::vector<std::shared_ptr<Parameter>> parameters() const = 0;

  /// Why ranks can't share a linear along `side` with this extension on it; empty: they can.
  /// `apply` then sees this rank's inputs and outputs, and is linear in what it is given.
  virtual std::string undivided(LinearSide side) const;
  /// The dimension of one of its parameters that runs along `side`, which is cut as the linear is;
  /// none: every rank has all of the parameter, and a part of its gradient.
  virtual std::optional<std::size_t> dimension_along(LinearSide side,
                                                     const Parameter& parameter) const;
  /// Told once, before the first pass, what this rank has of the linear.
  virtual void set_share(const LinearShare& share);
};

/// Where a tensor is redistributed between ranks on its way into or out of a module; empty: nothing
/// happens.
struct RedistributionSeat {
  std::function<at::Tensor(const at::Tensor&)> input;
  std::function<at::Tensor(const at::Tensor&)> output;
  /// What this rank has of the outputs before `output` joins them; nullptr: all, or parts of a sum.
  std::shared_ptr<const AxisShare> share;
};

/// Shape and naming of a Linear.
struct LinearSpec {
  Dimension out;
  Dimension in;
  bool bias = false;
  bool transposed_on_disk = false;  ///< stored as [in, out] (GPT-2's Conv1D)
  double initial_standard_deviation = 0.02;
  std::optional<Initialisation> weight_start;  ///< instead of that
  Initialisation bias_start;                   ///< zeros unless set
};

/// y = x W^T + b with x [rows, in], W [out, in].
class ESPALIER_API Linear {
 public:
  Linear(ModuleScope scope, const LinearSpec& spec);
  /// An output projection that uses another module's weight, with a bias of its own or none.
  Linear(ModuleScope scope, std::shared_ptr<Parameter> tied_weight, bool bias = false);
  Linear(const Linear&) = delete;
  Linear& operator=(const Linear&) = delete;

  /// input [rows, in] -> [rows, out] in the input's dtype.
  at::Tensor forward(const at::Tensor& input) const;
  /// The same without the last step, joining: what `redistribution().share` describes.
  at::Tensor forward_share(const at::Tensor& input) const;

  /// Full name, "model.layers.0.mlp.up_proj".
  const std::string& name() const { return name_; }
  const std::shared_ptr<Parameter>& weight() const { return weight_; }
  /// nullptr without a bias.
  const std::shared_ptr<Parameter>& bias() const { return bias_; }
  /// Never null; belongs to the linear.
  const WeightStorage& storage() const { return *storage_; }
  /// Returns the storage that was there.
  std::unique_ptr<WeightStorage> set_storage(std::unique_ptr<WeightStorage> storage) {
    return std::exchange(storage_, std::move(storage));
  }
  void add_extension(std::shared_ptr<LinearExtension> extension) {
    extensions_.push_back(std::move(extension));
  }
  void clear_extensions() { extensions_.clear(); }
  const std::vector<std::shared_ptr<LinearExtension>>& extensions() const { return extensions_; }
  RedistributionSeat& redistribution() { return redistribution_; }

 private:
  std::string name_;
  std::shared_ptr<Parameter> weight_;
  std::shared_ptr<Parameter> bias_;
  std::unique_ptr<WeightStorage> storage_;
  std::vector<std::shared_ptr<LinearExtension>> extensions_;
  RedistributionSeat redistribution_;
};

}  // namespace espalier::nn

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "espalier/nn/module_scope.h"

namespace espalier::nn {

class ExpertLinear;

/// Adds to what an ExpertLinear computes (LoRA on experts). Chained, shared and run as a
/// LinearExtension.
class ESPALIER_API ExpertLinearExtension {
 public:
  ExpertLinearExtension() = default;
  ExpertLinearExtension(const ExpertLinearExtension&) = delete;
  ExpertLinearExtension& operator=(const ExpertLinearExtension&) = delete;
  virtual ~ExpertLinearExtension();

  /// input [rows, in] and offsets as for ExpertLinear::forward, output [rows, out] so far ->
  /// [rows, out].
  virtual at::Tensor apply(const ExpertLinear& linear, const at::Tensor& input,
                           const at::Tensor& offsets, at::Tensor output) = 0;
  virtual std::vector<std::shared_ptr<Parameter>> parameters() const = 0;
};

/// Shape and naming of an ExpertLinear.
struct ExpertLinearSpec {
  Dimension experts;
  Dimension out;
  Dimension in;
  bool bias = false;
  /// Names of the tensors on disk that one expert's rows come from, each an equal share in order;
  /// "{}" is the expert's number. Empty: one tensor [experts, in, out] of the parameter's name.
  std::vector<std::string> disk_names;
  double initial_standard_deviation = 0.02;
};

/// The same projection of all experts of a layer, as one parameter [experts, out, in] with the
/// module's own name ("model.layers.0.mlp.experts.down_proj").
class ESPALIER_API ExpertLinear {
 public:
  ExpertLinear(ModuleScope scope, const ExpertLinearSpec& spec);
  ExpertLinear(const ExpertLinear&) = delete;
  ExpertLinear& operator=(const ExpertLinear&) = delete;

  /// input [rows, in], sorted by expert; offsets [experts + 1] int64 on the CPU: rows offsets[e] up
  /// to offsets[e + 1] are expert e's -> [rows, out].
  at::Tensor forward(const at::Tensor& input, const at::Tensor& offsets) const;

  const std::string& name() const { return name_; }
  const std::shared_ptr<Parameter>& weight() const { return weight_; }
  /// nullptr without a bias.
  const std::shared_ptr<Parameter>& bias() const { return bias_; }
  void add_extension(std::shared_ptr<ExpertLinearExtension> extension) {
    extensions_.push_back(std::move(extension));
  }
  void clear_extensions() { extensions_.clear(); }
  const std::vector<std::shared_ptr<ExpertLinearExtension>>& extensions() const {
    return extensions_;
  }

 private:
  std::string name_;
  std::shared_ptr<Parameter> weight_;
  std::shared_ptr<Parameter> bias_;
  std::vector<std::shared_ptr<ExpertLinearExtension>> extensions_;
};

}  // namespace espalier::nn

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/nn/linear.h"

namespace espalier::ia3 {

/// A learnt scale of a linear: of its outputs, y = (x W^T + b) l with l [out, 1], or of its inputs,
/// y = (x l) W^T + b with l [1, in].
class ScaledLinear final : public nn::LinearExtension {
 public:
  /// `enabled` is shared with the adapter.
  ScaledLinear(nn::Linear& linear, bool scales_input, std::shared_ptr<const bool> enabled);

  at::Tensor prepare(const nn::Linear& linear, at::Tensor input) override;
  at::Tensor apply(const nn::Linear& linear, const at::Tensor& input, at::Tensor output) override;
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {scale_}; }
  std::string undivided(nn::LinearSide) const override { return {}; }
  std::optional<std::size_t> dimension_along(nn::LinearSide side, const Parameter&) const override;

  const std::string& name() const { return linear_.name(); }
  bool scales_input() const { return scales_input_; }
  const std::shared_ptr<Parameter>& scale() const { return scale_; }
  nn::Linear& linear() const { return linear_; }

  /// Multiplies weight and, where outputs are scaled, bias by the scale, or divides them by it.
  void merge(bool inverse) const;

 private:
  at::Tensor scaled(const at::Tensor& x) const;

  nn::Linear& linear_;
  bool scales_input_;
  std::shared_ptr<const bool> enabled_;
  std::shared_ptr<Parameter> scale_;
};

}  // namespace espalier::ia3

#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <vector>

#include "espalier/ops/op.h"
#include "espalier/sdk/stable_c.h"

namespace espalier::stable {

/// A call into a plugin of the stable tier, with the tensors that it borrows.
class Call {
 public:
  Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// Dense tensors; an undefined one has null data.
  void set_inputs(const std::vector<at::Tensor>& tensors);
  void set_outputs(const std::vector<at::Tensor>& tensors);
  void set_attributes(const ops::OpAttributes& attributes);
  /// Room for `bytes`, on the device of the inputs.
  void set_workspace(std::size_t bytes);

  const EspalierCCall* get() const { return &call_; }
  /// Throws Error unless `code` is 0; `what` says what failed.
  void require_success(std::int32_t code, const std::string& what) const;

 private:
  EspalierCTensor view_of(const at::Tensor& tensor);

  EspalierCCall call_{};
  std::vector<at::Tensor> kept_;
  std::deque<std::vector<std::int64_t>> extents_;  ///< shapes and strides that views point to
  std::vector<EspalierCTensor> inputs_;
  std::vector<EspalierCTensor> outputs_;
  std::vector<char> message_;
};

/// Throws Error(kBadPlugin) for a type or rank that no tensor has.
at::Tensor allocate(const EspalierCShape& shape, const at::Device& device);

/// Makes losses and kernel packs of plugins of the stable tier usable in this process.
ESPALIER_API void register_factories();

}  // namespace espalier::stable

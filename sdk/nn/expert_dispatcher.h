#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "espalier/base/api.h"
#include "espalier/nn/router.h"

namespace espalier::nn {

/// What the experts held here compute: rows [n, embed], sorted by expert, offsets [experts + 1]
/// int64 on the CPU -> [n, embed].
using ExpertFunction = std::function<at::Tensor(const at::Tensor& rows, const at::Tensor& offsets)>;

/// The seat between router and experts: brings each token's row to its experts and the weighted sum
/// of their answers back. Expert parallelism puts an exchange between ranks here. Shared by the
/// module and whoever set it; run by the thread that runs the model.
class ESPALIER_API ExpertDispatcher {
 public:
  ExpertDispatcher() = default;
  ExpertDispatcher(const ExpertDispatcher&) = delete;
  ExpertDispatcher& operator=(const ExpertDispatcher&) = delete;
  virtual ~ExpertDispatcher();

  /// hidden [tokens, embed] -> sum over a token's experts of weight * answer, [tokens, embed] in
  /// hidden's dtype.
  virtual at::Tensor run(const at::Tensor& hidden, const Routing& routing, std::int64_t num_experts,
                         const ExpertFunction& experts) = 0;
};

/// All experts are here: rows are sorted by expert, computed, and sorted back.
class ESPALIER_API LocalDispatcher final : public ExpertDispatcher {
 public:
  at::Tensor run(const at::Tensor& hidden, const Routing& routing, std::int64_t num_experts,
                 const ExpertFunction& experts) override;
};

}  // namespace espalier::nn

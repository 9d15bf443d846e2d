#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace espalier {

struct NewtonSchulz {
  std::vector<double> coefficients{3.4445, -4.7750, 2.0315};
  std::int64_t steps = 5;
  double eps = 1e-7;  ///< least norm that the matrix is divided by
  at::ScalarType dtype = at::kFloat;
};

/// Nearly the orthogonal factor U V^T of matrices U S V^T: x [..., rows, columns] -> same shape, in
/// `options.dtype`. Singular values end up between about 0.5 and 1.5 (Jordan 2024).
at::Tensor orthogonalised(const at::Tensor& x, const NewtonSchulz& options);

}  // namespace espalier

#include "orthogonal.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/linalg_vector_norm.h>

namespace espalier {

at::Tensor orthogonalised(const at::Tensor& x, const NewtonSchulz& options) {
  const double a = options.coefficients[0];
  const double b = options.coefficients[1];
  const double c = options.coefficients[2];
  const bool tall = x.size(-2) > x.size(-1);
  at::Tensor y =  // [matrices, rows, columns]
      x.to(options.dtype).reshape({-1, x.size(-2), x.size(-1)});
  if (tall) y = y.mT();
  y = y / at::linalg_vector_norm(y, 2, at::IntArrayRef{-2, -1}, /*keepdim=*/true)
              .clamp_min(options.eps);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    const at::Tensor gram = at::bmm(y, y.mT());
    y = at::baddbmm(y, at::baddbmm(gram, gram, gram, b, c), y, a);
  }
  if (tall) y = y.mT();
  return y.reshape(x.sizes());
}

}  // namespace espalier

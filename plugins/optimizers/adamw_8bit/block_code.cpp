#include "block_code.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace espalier {
namespace {

constexpr int kExponents = 7;

/// [n] -> [blocks, block], zeros at the end.
at::Tensor in_blocks(const at::Tensor& flat, std::int64_t blocks, std::int64_t block) {
  const std::int64_t missing = blocks * block - flat.size(0);
  return (missing == 0 ? flat : at::constant_pad_nd(flat, {0, missing})).view({blocks, block});
}

}  // namespace

BlockCode::BlockCode(bool has_sign) {
  std::vector<double> values = {0.0, 1.0};
  for (int exponent = 0; exponent < kExponents; ++exponent) {
    const std::int64_t fractions = std::int64_t{1} << (has_sign ? exponent : exponent + 1);
    const at::Tensor ends =
        at::linspace(0.1, 1, fractions + 1, at::TensorOptions().dtype(at::kFloat));
    const double scale = std::pow(10.0, exponent - (kExponents - 1));
    for (std::int64_t i = 0; i < fractions; ++i) {
      const float middle = (ends[i].item<float>() + ends[i + 1].item<float>()) / 2.0F;
      values.push_back(scale * middle);
      if (has_sign) values.push_back(-scale * middle);
    }
  }
  std::sort(values.begin(), values.end());
  values_ = at::tensor(values, at::kFloat);
  borders_ = (values_.slice(0, 0, -1) + values_.slice(0, 1)) / 2;
}

at::Tensor BlockCode::decode(const at::Tensor& codes, const at::Tensor& scales,
                             std::int64_t block) const {
  const at::Tensor values = values_.to(codes.device()).index_select(0, codes.to(at::kInt));
  return in_blocks(values, scales.size(0), block)
      .mul(scales.unsqueeze(1))
      .flatten()
      .slice(0, 0, codes.size(0));
}

void BlockCode::encode(const at::Tensor& values, std::int64_t block, const at::Tensor& codes,
                       const at::Tensor& scales) const {
  const at::Tensor rows = in_blocks(values, scales.size(0), block);
  scales.copy_(rows.abs().amax(1));
  const at::Tensor shares = rows.div(scales.clamp_min(1e-38).unsqueeze(1)).clamp_(-1, 1);
  codes.copy_(at::bucketize(shares.flatten().slice(0, 0, values.size(0)),
                            borders_.to(values.device()), /*out_int32=*/true));
}

}  // namespace espalier

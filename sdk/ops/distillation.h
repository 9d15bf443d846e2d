#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/base/api.h"

namespace espalier::ops {

/// How far a student is from its teacher.
enum class Divergence {
  kForward,        ///< KL(teacher || student)
  kReverse,        ///< KL(student || teacher)
  kJensenShannon,  ///< half of each against their mean
};

/// Sum over the rows whose label is not -100 of temperature^2 times the divergence of the softmaxes
/// at that temperature, in float32 whatever the dtype of the logits (Hinton et al. 2015). student,
/// teacher [rows, vocab], labels [rows] int64 -> scalar float32; the teacher gets no gradient. No
/// label at all gives 0 with a zero gradient.
ESPALIER_API at::Tensor distillation(const at::Tensor& student, const at::Tensor& teacher,
                                     const at::Tensor& labels, Divergence divergence,
                                     double temperature);

}  // namespace espalier::ops

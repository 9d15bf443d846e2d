#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/base/api.h"

namespace espalier::ops {

/// Shape of a direct preference loss over margin m = log ratio of the chosen answer - that of the
/// rejected one, each between policy and reference.
enum class PreferenceShape {
  kSigmoid,  ///< -(1 - e) log sigmoid(b m) - e log sigmoid(-b m); Rafailov et al. 2023, e: cDPO
  kHinge,    ///< max(0, 1 - b m); Zhao et al. 2023 (SLiC)
  kIpo,      ///< (m - 1 / (2 b))^2; Azar et al. 2023
};

struct PreferenceOptions {
  PreferenceShape shape = PreferenceShape::kSigmoid;
  double beta = 0.1;
  double label_smoothing = 0.0;  ///< e: share of pairs that are taken to be the wrong way round
};

/// margins [pairs] float32 -> losses [pairs].
ESPALIER_API at::Tensor preference_losses(const at::Tensor& margins,
                                          const PreferenceOptions& options);

/// log sigmoid of the log odds ratio of two answers, from the mean log probability of their tokens
/// (all negative); Hong et al. 2024 (ORPO). [pairs] -> [pairs].
ESPALIER_API at::Tensor log_odds_preference(const at::Tensor& chosen, const at::Tensor& rejected);

}  // namespace espalier::ops

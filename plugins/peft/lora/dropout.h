#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "espalier/sdk/adapter.h"
#include "espalier/sdk/share.h"

namespace espalier::lora {

/// What all modules of one adapter share.
struct AdapterState {
  bool enabled = true;
  PassPosition position;
};

/// Factors of a dropout over `like` [rows, columns]: 0 with probability `share`, 1 / (1 - share)
/// otherwise, in its shape and dtype. A function of the position, the site and the index of the
/// element. Where ranks share the columns, `columns` says which of them `like` has; nullptr: all.
at::Tensor dropout_mask(const at::Tensor& like, double share, const PassPosition& position,
                        const std::string& site, const AxisShare* columns);

}  // namespace espalier::lora

#pragma once

#include <span>

#include "espalier/conformance/check.h"

namespace espalier::conformance {

// One list an interface, each in a file of its own.
std::span<const Check> adapter_checks();
std::span<const Check> checkpoint_checks();
std::span<const Check> communication_checks();
std::span<const Check> dataset_checks();
std::span<const Check> kernel_checks();
std::span<const Check> loss_checks();
std::span<const Check> model_checks();
std::span<const Check> objective_checks();
std::span<const Check> optimizer_checks();
std::span<const Check> quantizer_checks();
std::span<const Check> schedule_checks();
std::span<const Check> strategy_checks();
std::span<const Check> tokenizer_checks();

}  // namespace espalier::conformance

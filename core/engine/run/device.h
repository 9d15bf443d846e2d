#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>

namespace espalier {

/// The device that a model and its optimizer live on. "auto": the GPU where there is one that
/// LibTorch can use, otherwise the CPU; "cpu"; "cuda": an error that says what is missing where it
/// can't be used. LibTorch's CUDA library is opened here and nowhere else, so that a run on the CPU
/// never maps it. Call before any tensor is made.
at::Device choose_device(const std::string& requested);

/// Bytes of the device's memory that tensors took at their most; nothing on the CPU, whose memory
/// is that of the process.
std::optional<std::int64_t> peak_device_bytes(at::Device device);

}  // namespace espalier

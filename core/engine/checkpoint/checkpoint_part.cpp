#include "engine/checkpoint/checkpoint_part.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <filesystem>

#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

at::Tensor snapshot(const at::Tensor& tensor) {
  const at::Tensor own = tensor.detach();
  if (!own.is_cpu() || !own.is_contiguous())
    return at::empty(own.sizes(), own.options().device(at::kCPU)).copy_(own);
  // LibTorch's copy would start threads of its own beside those that compute.
  at::Tensor copy = at::empty(own.sizes(), own.options());
  std::memcpy(copy.mutable_data_ptr(), own.const_data_ptr(), own.nbytes());
  return copy;
}

}  // namespace

void CheckpointPart::copy() {
  const auto finish = [this] {
    const std::lock_guard lock(mutex_);
    copied_ = true;
    changed_.notify_all();
  };
  try {
    const at::NoGradGuard no_grad;
    for (CheckpointFile& file : files_) {
      for (auto& [name, tensor] : file.tensors) tensor = snapshot(tensor);
    }
  } catch (...) {
    finish();
    throw;
  }
  finish();
}

void CheckpointPart::wait_for_copy() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return copied_; });
}

void CheckpointPart::write(const std::string& folder) const {
  for (const CheckpointFile& file : files_) {
    std::vector<TensorSource> sources;
    sources.reserve(file.tensors.size());
    for (const auto& [name, tensor] : file.tensors) sources.push_back(tensor_source(name, tensor));
    write_safetensors((std::filesystem::path(folder) / file.name).string(), sources, file.metadata);
  }
}

}  // namespace espalier

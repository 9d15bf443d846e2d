// A file of torch.save, zip or legacy, of a stranger: refused with an Error, or its tensors can be
// read.
#include "espalier/base/error.h"
#include "espalier/base/torch_file.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const espalier::fuzz::MemoryFile file(data, size);
  try {
    if (!espalier::TorchFile::is_torch_file(file.path())) return 0;
    const espalier::TorchFile tensors(file.path());
    unsigned sum = 0;
    for (const espalier::TensorInfo& tensor : tensors.tensors()) {
      constexpr std::uint64_t kMost = 1 << 20;  // expanded tensors may be larger than the file
      if (tensor.size_bytes() > kMost) continue;
      for (const std::byte byte : tensors.data(tensor.name)) sum += static_cast<unsigned>(byte);
    }
    if (sum == 1) return 0;  // reads every byte
  } catch (const espalier::Error& error) {
    if (error.code() == espalier::ErrorCode::kInternal) std::abort();
  }
  return 0;
}

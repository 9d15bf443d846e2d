// A safetensors file of a stranger: refused with an Error, or all of its tensors can be read.
#include "espalier/base/error.h"
#include "espalier/base/safetensors.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const espalier::fuzz::MemoryFile file(data, size);
  try {
    const espalier::SafetensorsFile tensors(file.path());
    unsigned sum = 0;
    for (const espalier::TensorInfo& tensor : tensors.tensors())
      for (const std::byte byte : tensors.data(tensor.name)) sum += static_cast<unsigned>(byte);
    if (sum == 1) return 0;  // reads every byte
  } catch (const espalier::Error& error) {
    if (error.code() == espalier::ErrorCode::kInternal) std::abort();
  }
  return 0;
}

// A GGUF file of a stranger: refused with an Error, or its metadata, tensors and tokenizer can be
// read.
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/gguf.h"
#include "espalier/base/gguf_dequantize.h"
#include "formats/gguf_decoder.h"
#include "formats/gguf_tokenizer.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using espalier::Error;
  using espalier::ErrorCode;
  const auto attempt = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kInternal) std::abort();
    }
  };
  const espalier::fuzz::MemoryFile file(data, size);
  attempt([&] {
    const espalier::GgufFile gguf(file.path());
    for (const espalier::GgufTensor& tensor : gguf.tensors()) {
      constexpr std::int64_t kMost = 1 << 10;
      if (tensor.element_count() > kMost || !espalier::can_dequantize(tensor.type)) continue;
      std::vector<float> values(static_cast<std::size_t>(tensor.element_count()));
      espalier::dequantize(tensor.type, gguf.data(tensor), values);
    }
    attempt([&] { espalier::formats::map_gguf_decoder(gguf); });
    attempt([&] { espalier::formats::map_gguf_tokenizer(gguf); });
  });
  return 0;
}

// Out-of-line parts of the interfaces for formats of files, so that each vtable exists once.
#include "espalier/base/error.h"
#include "espalier/sdk/checkpoint_format.h"
#include "espalier/sdk/tokenizer_format.h"

namespace espalier {

TokenizerFormat::~TokenizerFormat() = default;

CheckpointFormat::~CheckpointFormat() = default;

void CheckpointFormat::write(const std::string& path, const std::vector<TensorSource>& /*tensors*/,
                             const TensorMetadata& /*metadata*/) const {
  throw Error(Problem{.code = ErrorCode::kUnsupported,
                      .what = "this format of weights is read and not written",
                      .where = path});
}

}  // namespace espalier

// Out-of-line destructors: each interface's vtable and type information exist once, in this library.
#include "espalier/sdk/model.h"

namespace espalier {

Block::~Block() = default;
BlockRunner::~BlockRunner() = default;
Head::~Head() = default;
Model::~Model() = default;
ModelProvider::~ModelProvider() = default;

BlockState BlockRunner::run(Block& block, BlockState state, const BatchContext& context) {
  return block.forward(std::move(state), context);
}

std::shared_ptr<void> BlockRunner::head_scope(const std::vector<std::shared_ptr<Parameter>>&) { return nullptr; }

}  // namespace espalier

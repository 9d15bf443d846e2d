// Out-of-line destructors: each interface's vtable and type information exist once, in this
// library.
#include "espalier/base/error.h"
#include "espalier/sdk/adapter.h"
#include "espalier/sdk/communicator.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

Adapter::~Adapter() = default;
Block::~Block() = default;
BlockRunner::~BlockRunner() = default;
CommBackend::~CommBackend() = default;
Communicator::~Communicator() = default;
Dataset::~Dataset() = default;
Head::~Head() = default;
Loss::~Loss() = default;
LrScheduler::~LrScheduler() = default;
Model::~Model() = default;
ModelProvider::~ModelProvider() = default;
Objective::~Objective() = default;
Optimizer::~Optimizer() = default;
ParallelStrategy::~ParallelStrategy() = default;
Work::~Work() = default;
World::~World() = default;

BlockState BlockRunner::run(Block& block, BlockState state, const BatchContext& context) {
  return block.forward(std::move(state), context);
}

double Adapter::extract(Model&, Model&) {
  throw Error(Problem{ErrorCode::kUnsupported,
                      "this kind of adapter can't be extracted from two checkpoints",
                      {},
                      {},
                      {},
                      "a low-rank one can"});
}

std::shared_ptr<void> BlockRunner::head_scope(const std::vector<std::shared_ptr<Parameter>>&) {
  return nullptr;
}

}  // namespace espalier

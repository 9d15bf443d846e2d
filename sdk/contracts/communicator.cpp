#include "espalier/sdk/communicator.h"

#include <ATen/ops/zeros.h>

#include "espalier/base/error.h"

namespace espalier {
namespace {

class DoneWork final : public Work {
 public:
  void wait() override {}
};

class SoloCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::shared_ptr<Work> all_reduce(const at::Tensor&, const char*) override { return done(); }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    output.copy_(input);
    return done();
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char*) override {
    output.copy_(input);
    return done();
  }
  std::shared_ptr<Work> broadcast(const at::Tensor&, int, const char*) override { return done(); }

 private:
  static std::shared_ptr<Work> done() { return std::make_shared<DoneWork>(); }
};

class SoloWorld final : public World {
 public:
  const std::shared_ptr<Communicator>& all() override { return all_; }
  std::shared_ptr<Communicator> group(const std::string&, const std::vector<int>& ranks) override {
    ESPALIER_ASSERT(ranks == std::vector<int>{0}, "a world of one rank has no other group");
    return all_;
  }

 private:
  std::shared_ptr<Communicator> all_ = solo_communicator();
};

}  // namespace

void World::begin_step(std::int64_t) {}

void Communicator::barrier(const char* what) {
  all_reduce(at::zeros({1}, at::TensorOptions().dtype(at::kInt)), what)->wait();
}

std::shared_ptr<Communicator> solo_communicator() { return std::make_shared<SoloCommunicator>(); }

std::unique_ptr<World> solo_world() { return std::make_unique<SoloWorld>(); }

}  // namespace espalier

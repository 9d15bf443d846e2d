#include "engine/parallel/planning_world.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace espalier {
namespace {

class ReturnedWork final : public Work {
 public:
  void wait() override {}
};

class PlanningCommunicator final : public Communicator {
 public:
  PlanningCommunicator(int rank, int size, std::shared_ptr<CommunicationVolume> volume)
      : rank_(rank), size_(size), volume_(std::move(volume)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char*) override {
    return count("all_reduce", 2 * share(tensor));
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    const at::NoGradGuard no_grad;
    for (int rank = 0; rank < size_; ++rank)
      output.detach().view({size_, -1}).select(0, rank).copy_(input.detach().view({-1}));
    return count("all_gather", share(output));
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char*) override {
    const at::NoGradGuard no_grad;
    output.detach().view({-1}).copy_(input.detach().view({size_, -1}).select(0, rank_));
    return count("reduce_scatter", share(input));
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int, const char*) override {
    return count("broadcast", static_cast<std::int64_t>(tensor.nbytes()));
  }

 private:
  /// What a ring sends to pass every part but one's own on once.
  std::int64_t share(const at::Tensor& whole) const {
    return static_cast<std::int64_t>(whole.nbytes()) * (size_ - 1) / size_;
  }
  std::shared_ptr<Work> count(const char* kind, std::int64_t bytes) {
    volume_->bytes[kind] += bytes;
    ++volume_->calls[kind];
    return std::make_shared<ReturnedWork>();
  }

  int rank_;
  int size_;
  std::shared_ptr<CommunicationVolume> volume_;
};

}  // namespace

std::int64_t CommunicationVolume::total() const {
  std::int64_t sum = 0;
  for (const auto& [kind, count] : bytes) sum += count;
  return sum;
}

PlanningWorld::PlanningWorld(int size)
    : volume_(std::make_shared<CommunicationVolume>()),
      all_(std::make_shared<PlanningCommunicator>(0, size, volume_)) {}

std::shared_ptr<Communicator> PlanningWorld::group(const std::string&,
                                                   const std::vector<int>& ranks) {
  if (std::find(ranks.begin(), ranks.end(), 0) == ranks.end()) return nullptr;
  return std::make_shared<PlanningCommunicator>(0, static_cast<int>(ranks.size()), volume_);
}

}  // namespace espalier

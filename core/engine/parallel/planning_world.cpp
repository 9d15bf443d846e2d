#include "engine/parallel/planning_world.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace espalier {
namespace {

double now(const CommunicationVolume& volume) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - volume.start).count();
}

class CountedWork final : public Work {
 public:
  CountedWork(std::shared_ptr<CommunicationVolume> volume, std::size_t index)
      : volume_(std::move(volume)), start_(volume_->start), index_(index) {}
  void wait() override {
    if (volume_->start != start_) return;  // counting has begun anew since
    double& awaited = volume_->collectives[index_].awaited;
    if (awaited < 0) awaited = now(*volume_);
  }

 private:
  std::shared_ptr<CommunicationVolume> volume_;
  std::chrono::steady_clock::time_point start_;
  std::size_t index_;
};

class PlanningCommunicator final : public Communicator {
 public:
  PlanningCommunicator(int rank, int size, std::shared_ptr<CommunicationVolume> volume)
      : rank_(rank), size_(size), volume_(std::move(volume)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char* what) override {
    return count("all_reduce", what, 2 * share(tensor));
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char* what) override {
    const at::NoGradGuard no_grad;
    output.detach().view({size_, -1}).copy_(input.detach().view({1, -1}));
    return count("all_gather", what, share(output));
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char* what) override {
    const at::NoGradGuard no_grad;
    output.detach().view({-1}).copy_(input.detach().view({size_, -1}).select(0, rank_));
    return count("reduce_scatter", what, share(input));
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int, const char* what) override {
    return count("broadcast", what, static_cast<std::int64_t>(tensor.nbytes()));
  }

 private:
  /// What a ring sends to pass every part but one's own on once.
  std::int64_t share(const at::Tensor& whole) const {
    return static_cast<std::int64_t>(whole.nbytes()) * (size_ - 1) / size_;
  }
  std::shared_ptr<Work> count(const char* kind, const char* what, std::int64_t bytes) {
    volume_->bytes[kind] += bytes;
    ++volume_->calls[kind];
    volume_->collectives.push_back({kind, what, bytes, now(*volume_)});
    return std::make_shared<CountedWork>(volume_, volume_->collectives.size() - 1);
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

PlanningWorld::PlanningWorld(int size, int rank)
    : rank_(rank),
      volume_(std::make_shared<CommunicationVolume>()),
      all_(std::make_shared<PlanningCommunicator>(rank, size, volume_)) {}

std::shared_ptr<Communicator> PlanningWorld::group(const std::string&,
                                                   const std::vector<int>& ranks) {
  const auto own = std::find(ranks.begin(), ranks.end(), rank_);
  if (own == ranks.end()) return nullptr;
  return std::make_shared<PlanningCommunicator>(static_cast<int>(own - ranks.begin()),
                                                static_cast<int>(ranks.size()), volume_);
}

}  // namespace espalier

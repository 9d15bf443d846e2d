#include "gloo_communicator.h"

#define USE_C10D_GLOO  // NOLINT(readability-identifier-naming): LibTorch asks for this name
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "espalier/base/error.h"

namespace espalier {
namespace {

using c10d::ProcessGroupGloo;

Error connection_error(const std::string& text) {
  return Error(
      Problem{ErrorCode::kPeerFailed, "the connection to other ranks failed", text, {}, {}, {}});
}

class GlooWork final : public Work {
 public:
  explicit GlooWork(c10::intrusive_ptr<c10d::Work> work) : work_(std::move(work)) {}
  void wait() override {
    try {
      work_->wait();
    } catch (const std::exception& error) {
      throw connection_error(error.what());
    }
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
};

class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(const GroupSetup& setup, const std::string& interface)
      : rank_(setup.rank), size_(setup.size) {
    const auto options = ProcessGroupGloo::Options::create(setup.timeout);
    options->threads = 1;  // calls run in their order, and one thread is what a CPU rank can spare
    options->devices.push_back(interface.empty()
                                   ? ProcessGroupGloo::createDeviceForHostname(setup.address)
                                   : ProcessGroupGloo::createDeviceForInterface(interface));
    group_ = c10::make_intrusive<ProcessGroupGloo>(setup.store, rank_, size_, options);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char*) override {
    std::vector<at::Tensor> tensors = {tensor};
    return start([&] { return group_->allreduce(tensors); });
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    at::Tensor whole = output;
    at::Tensor part = input;
    return start([&] { return group_->all_gather_single(whole, part); });
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char*) override {
    at::Tensor part = output;
    at::Tensor whole = input;
    return start([&] { return group_->reduce_scatter_single(part, whole); });
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char*) override {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return start([&] { return group_->broadcast(tensors, options); });
  }

 private:
  template <class Call>
  static std::shared_ptr<Work> start(const Call& call) {
    try {
      return std::make_shared<GlooWork>(call());
    } catch (const std::exception& error) {
      throw connection_error(error.what());
    }
  }

  int rank_;
  int size_;
  c10::intrusive_ptr<ProcessGroupGloo> group_;
};

}  // namespace

std::shared_ptr<Communicator> connect_gloo(const GroupSetup& setup, const std::string& interface) {
  try {
    return std::make_shared<GlooCommunicator>(setup, interface);
  } catch (const std::exception& error) {
    throw connection_error(error.what());
  }
}

}  // namespace espalier

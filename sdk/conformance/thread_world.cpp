#include "espalier/conformance/thread_world.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

namespace espalier::conformance {
namespace {

enum class Kind { kAllReduce, kAllGather, kReduceScatter, kBroadcast };

constexpr auto kPatience = std::chrono::seconds(60);

/// One collective: what each rank gave, until all have.
struct Operation {
  Kind kind;
  int root = 0;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
  int arrived = 0;
  bool done = false;
};

void poison(const at::Tensor& tensor) {
  if (tensor.is_floating_point())
    tensor.fill_(std::numeric_limits<double>::quiet_NaN());
  else
    tensor.fill_(113);
}

void complete(Operation& operation) {
  const at::NoGradGuard no_grad;
  const std::size_t ranks = operation.inputs.size();
  if (operation.kind == Kind::kBroadcast) {
    const at::Tensor value = operation.inputs[static_cast<std::size_t>(operation.root)].clone();
    for (const at::Tensor& output : operation.outputs) output.copy_(value);
    return;
  }
  if (operation.kind == Kind::kAllGather) {
    for (std::size_t to = 0; to < ranks; ++to) {
      for (std::size_t from = 0; from < ranks; ++from) {
        const std::int64_t n = operation.inputs[from].numel();
        operation.outputs[to]
            .narrow(0, static_cast<std::int64_t>(from) * n, n)
            .copy_(operation.inputs[from]);
      }
    }
    return;
  }
  at::Tensor sum = operation.inputs[0].clone();
  for (std::size_t i = 1; i < ranks; ++i) sum.add_(operation.inputs[i]);
  for (std::size_t i = 0; i < ranks; ++i) {
    const std::int64_t n = operation.outputs[i].numel();
    operation.outputs[i].copy_(operation.kind == Kind::kAllReduce
                                   ? sum
                                   : sum.narrow(0, static_cast<std::int64_t>(i) * n, n));
  }
}

}  // namespace

/// Where the ranks meet, and the thread that completes what they began.
class ThreadWorld::Exchange {
 public:
  explicit Exchange(unsigned seed) : random_(seed), thread_([this] { deliver(); }) {}
  ~Exchange() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::shared_ptr<Operation> begin(const std::string& key, Kind kind, int rank, int size, int root,
                                   const at::Tensor& input, const at::Tensor& output) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Operation>& operation = open_[key];
    if (operation == nullptr) {
      operation = std::make_shared<Operation>();
      operation->kind = kind;
      operation->root = root;
      operation->inputs.resize(static_cast<std::size_t>(size));
      operation->outputs.resize(static_cast<std::size_t>(size));
    }
    if (operation->kind != kind) throw std::logic_error("ranks call different collectives: " + key);
    operation->inputs[static_cast<std::size_t>(rank)] = input;
    operation->outputs[static_cast<std::size_t>(rank)] = output;
    std::shared_ptr<Operation> own = operation;
    if (++operation->arrived == size) {
      ready_.push_back(operation);
      open_.erase(key);
    }
    changed_.notify_all();
    return own;
  }

  void wait(const std::shared_ptr<Operation>& operation, const std::string& what) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return operation->done || failed_; }))
      throw std::runtime_error("not all ranks came to the collective '" + what + "'");
    if (!operation->done) throw std::runtime_error("another rank failed");
  }

  void fail() {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

 private:
  void deliver() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || !ready_.empty(); });
      if (stopping_) return;
      // Time for a rank that does not wait to go on with what it should not have yet.
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(300));
      lock.lock();
      const std::size_t chosen = random_() % ready_.size();
      const std::shared_ptr<Operation> operation = ready_[chosen];
      ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(chosen));
      complete(*operation);
      operation->done = true;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<Operation>> open_;
  std::deque<std::shared_ptr<Operation>> ready_;
  bool stopping_ = false;
  bool failed_ = false;
  std::minstd_rand random_;
  std::thread thread_;
};

namespace {

class ThreadWork final : public Work {
 public:
  ThreadWork(std::shared_ptr<ThreadWorld::Exchange> exchange, std::shared_ptr<Operation> operation,
             std::string what)
      : exchange_(std::move(exchange)), operation_(std::move(operation)), what_(std::move(what)) {}
  void wait() override { exchange_->wait(operation_, what_); }

 private:
  std::shared_ptr<ThreadWorld::Exchange> exchange_;
  std::shared_ptr<Operation> operation_;
  std::string what_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadWorld::Exchange> exchange, std::string name, int rank,
                     int size)
      : exchange_(std::move(exchange)), name_(std::move(name)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char* what) override {
    const at::Tensor input = tensor.detach().clone();
    poison(tensor.detach());
    return begin(Kind::kAllReduce, input, tensor.detach(), what);
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char* what) override {
    poison(output);
    return begin(Kind::kAllGather, input, output, what);
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char* what) override {
    poison(output);
    return begin(Kind::kReduceScatter, input, output, what);
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char* what) override {
    const at::Tensor input = tensor.detach().clone();
    poison(tensor.detach());
    return begin(Kind::kBroadcast, input, tensor.detach(), what, root);
  }

 private:
  std::shared_ptr<Work> begin(Kind kind, const at::Tensor& input, const at::Tensor& output,
                              const char* what, int root = 0) {
    const std::string key = name_ + "/" + std::to_string(next_++);
    return std::make_shared<ThreadWork>(
        exchange_, exchange_->begin(key, kind, rank_, size_, root, input, output), what);
  }

  std::shared_ptr<ThreadWorld::Exchange> exchange_;
  std::string name_;
  int rank_;
  int size_;
  std::int64_t next_ = 0;
};

class RankWorld final : public World {
 public:
  RankWorld(std::shared_ptr<ThreadWorld::Exchange> exchange, int rank, int size)
      : exchange_(std::move(exchange)), rank_(rank) {
    all_ = std::make_shared<ThreadCommunicator>(exchange_, "all", rank, size);
  }
  const std::shared_ptr<Communicator>& all() override { return all_; }
  std::shared_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& ranks) override {
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] == rank_)
        return std::make_shared<ThreadCommunicator>(exchange_, name, static_cast<int>(i),
                                                    static_cast<int>(ranks.size()));
    }
    return nullptr;
  }

 private:
  std::shared_ptr<ThreadWorld::Exchange> exchange_;
  int rank_;
  std::shared_ptr<Communicator> all_;
};

}  // namespace

ThreadWorld::ThreadWorld(int size, unsigned seed)
    : size_(size), exchange_(std::make_shared<Exchange>(seed)) {}

ThreadWorld::~ThreadWorld() = default;

void ThreadWorld::run(const std::function<void(World& world)>& work) {
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(size_));
  for (int rank = 0; rank < size_; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        RankWorld world(exchange_, rank, size_);
        work(world);
      } catch (...) {
        {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        exchange_->fail();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace espalier::conformance

#include "espalier/conformance/thread_world.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace espalier::conformance {
namespace {

/// Thrown in ranks that wait for one that has failed.
struct Released : std::runtime_error {
  Released() : std::runtime_error("another rank has failed") {}
};

/// What the ranks of one run share.
struct Shared {
  std::mutex mutex;
  std::condition_variable changed;
  bool failed = false;

  void fail() {
    const std::lock_guard lock(mutex);
    failed = true;
    changed.notify_all();
  }
};

/// The meeting place of one group: every rank lays a tensor down and reads those of all.
class Table {
 public:
  Table(Shared& shared, int size)
      : shared_(shared), laid_(static_cast<std::size_t>(size)), size_(size) {}

  /// Copies of what all ranks have brought, in their order.
  std::vector<at::Tensor> exchange(int rank, const at::Tensor& tensor) {
    laid_[static_cast<std::size_t>(rank)] = tensor.detach().clone();
    meet();
    std::vector<at::Tensor> all = laid_;
    meet();  // nobody lays down the next before all have read
    return all;
  }

 private:
  void meet() {
    std::unique_lock lock(shared_.mutex);
    const std::int64_t round = round_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      shared_.changed.notify_all();
    } else {
      shared_.changed.wait(lock, [&] { return round_ != round || shared_.failed; });
    }
    if (shared_.failed) throw Released();
  }

  Shared& shared_;
  std::vector<at::Tensor> laid_;
  const int size_;
  int arrived_ = 0;
  std::int64_t round_ = 0;
};

class Done final : public Work {
 public:
  void wait() override {}
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Table> table, int rank, int size)
      : table_(std::move(table)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char*) override {
    tensor.copy_(sum(table_->exchange(rank_, tensor)));
    return done();
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    const auto all = table_->exchange(rank_, input);
    for (int i = 0; i < size_; ++i)
      output.narrow(0, i * input.size(0), input.size(0)).copy_(all[static_cast<std::size_t>(i)]);
    return done();
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char*) override {
    const at::Tensor total = sum(table_->exchange(rank_, input));
    output.copy_(total.narrow(0, rank_ * output.size(0), output.size(0)));
    return done();
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char*) override {
    tensor.copy_(table_->exchange(rank_, tensor)[static_cast<std::size_t>(root)]);
    return done();
  }

 private:
  static std::shared_ptr<Work> done() { return std::make_shared<Done>(); }
  static at::Tensor sum(const std::vector<at::Tensor>& all) {
    at::Tensor total = all[0].clone();
    for (std::size_t i = 1; i < all.size(); ++i) total.add_(all[i]);
    return total;
  }

  std::shared_ptr<Table> table_;
  int rank_;
  int size_;
};

/// The groups of a run, by name; each made once.
struct Groups {
  Shared shared;
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Table>> tables;

  std::shared_ptr<Table> table(const std::string& name, int size) {
    const std::lock_guard lock(mutex);
    auto& table = tables[name];
    if (!table) table = std::make_shared<Table>(shared, size);
    return table;
  }
};

class ThreadWorld final : public World {
 public:
  ThreadWorld(Groups& groups, int rank, int size)
      : groups_(groups),
        rank_(rank),
        all_(std::make_shared<ThreadCommunicator>(groups.table("all", size), rank, size)) {}

  const std::shared_ptr<Communicator>& all() override { return all_; }
  std::shared_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& ranks) override {
    const auto place = std::find(ranks.begin(), ranks.end(), rank_);
    if (place == ranks.end()) return nullptr;
    std::string key = name;
    for (const int rank : ranks) key += "," + std::to_string(rank);
    const int size = static_cast<int>(ranks.size());
    return std::make_shared<ThreadCommunicator>(groups_.table(key, size),
                                                static_cast<int>(place - ranks.begin()), size);
  }

 private:
  Groups& groups_;
  int rank_;
  std::shared_ptr<Communicator> all_;
};

}  // namespace

void run_ranks(int size, const std::function<void(World& world)>& work) {
  Groups groups;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        ThreadWorld world(groups, rank, size);
        work(world);
      } catch (const Released&) {
        // The rank that failed says why.
      } catch (...) {
        {
          const std::lock_guard lock(groups.mutex);
          if (!first) first = std::current_exception();
        }
        groups.shared.fail();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace espalier::conformance

#include "shared_memory_communicator.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "espalier/base/error.h"
#include "shared_segment.h"

namespace espalier {
namespace {

constexpr std::int64_t kSerialElements = 32'768;  // as many are added without starting threads

class FutureWork final : public Work {
 public:
  explicit FutureWork(std::shared_future<void> done) : done_(std::move(done)) {}
  void wait() override { done_.get(); }

 private:
  std::shared_future<void> done_;
};

class SharedMemoryCommunicator final : public Communicator {
 public:
  explicit SharedMemoryCommunicator(const GroupSetup& setup)
      : segment_(setup), thread_([this] { work(); }) {}
  ~SharedMemoryCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  int rank() const override { return segment_.rank(); }
  int size() const override { return segment_.size(); }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char*) override {
    return enqueue([this, tensor] { do_all_reduce(tensor.detach().view({-1})); });
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    return enqueue([this, output, input] { do_all_gather(output, input); });
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char*) override {
    return enqueue([this, output, input] {
      do_reduce_scatter(output.detach().view({-1}), input.detach().view({-1}));
    });
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char*) override {
    return enqueue([this, tensor, root] { do_broadcast(tensor, root); });
  }

 private:
  std::shared_ptr<Work> enqueue(std::function<void()> job) {
    std::packaged_task<void()> task(std::move(job));
    auto work = std::make_shared<FutureWork>(task.get_future().share());
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(task));
    }
    changed_.notify_all();
    return work;
  }

  void work() {
    const at::NoGradGuard no_grad;
    while (true) {
      std::packaged_task<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (stopping_) return;
        task = std::move(queue_.front());
        queue_.pop_front();
      }
      task();
    }
  }

  /// Slots of one turn may be written again two turns later: by then every rank has passed the
  /// barrier between, and so has read them.
  int next_turn() { return static_cast<int>(turns_++ % 2); }

  at::Tensor view_of(int turn, int rank, std::int64_t first, std::int64_t count,
                     const at::Tensor& like) const {
    std::byte* begin =
        segment_.slot(turn, rank) + static_cast<std::size_t>(first) * like.element_size();
    return at::from_blob(begin, {count}, like.options());
  }

  /// target = sum over ranks of `count` elements of their slots from `first` on.
  void sum_slots(const at::Tensor& target, int turn, std::int64_t first) const {
    for (std::int64_t begin = 0; begin < target.numel(); begin += kSerialElements) {
      const std::int64_t count = std::min(kSerialElements, target.numel() - begin);
      const at::Tensor part = target.narrow(0, begin, count);
      part.copy_(view_of(turn, 0, first + begin, count, target));
      for (int rank = 1; rank < size(); ++rank)
        part.add_(view_of(turn, rank, first + begin, count, target));
    }
  }

  void do_all_reduce(const at::Tensor& tensor) {
    const std::int64_t piece =
        static_cast<std::int64_t>(SharedSegment::kSlotBytes / tensor.element_size());
    for (std::int64_t begin = 0; begin < tensor.numel(); begin += piece) {
      const at::Tensor own = tensor.narrow(0, begin, std::min(piece, tensor.numel() - begin));
      const int turn = next_turn();
      std::memcpy(segment_.slot(turn, rank()), own.const_data_ptr(), own.nbytes());
      segment_.barrier();
      const std::int64_t share = (own.numel() + size() - 1) / size();
      const std::int64_t first = std::min(own.numel(), rank() * share);
      const std::int64_t count = std::min(share, own.numel() - first);
      if (count > 0) sum_slots(view_of(turn, size(), first, count, own), turn, first);
      segment_.barrier();
      std::memcpy(own.mutable_data_ptr(), segment_.slot(turn, size()), own.nbytes());
    }
  }

  void do_all_gather(const at::Tensor& output, const at::Tensor& input) {
    auto* target = static_cast<std::byte*>(output.mutable_data_ptr());
    const auto* source = static_cast<const std::byte*>(input.const_data_ptr());
    const std::size_t total = input.nbytes();
    for (std::size_t begin = 0; begin < total; begin += SharedSegment::kSlotBytes) {
      const std::size_t count = std::min(SharedSegment::kSlotBytes, total - begin);
      const int turn = next_turn();
      std::memcpy(segment_.slot(turn, rank()), source + begin, count);
      segment_.barrier();
      for (int from = 0; from < size(); ++from)
        std::memcpy(target + static_cast<std::size_t>(from) * total + begin,
                    segment_.slot(turn, from), count);
    }
  }

  void do_reduce_scatter(const at::Tensor& output, const at::Tensor& input) {
    const std::int64_t total = output.numel();
    const std::int64_t piece = static_cast<std::int64_t>(
        SharedSegment::kSlotBytes / input.element_size() / static_cast<std::size_t>(size()));
    for (std::int64_t begin = 0; begin < total; begin += piece) {
      const std::int64_t count = std::min(piece, total - begin);
      const int turn = next_turn();
      for (int to = 0; to < size(); ++to) {
        const at::Tensor part = input.narrow(0, to * total + begin, count);
        std::memcpy(segment_.slot(turn, rank()) + static_cast<std::size_t>(to) * part.nbytes(),
                    part.const_data_ptr(), part.nbytes());
      }
      segment_.barrier();
      sum_slots(output.narrow(0, begin, count), turn, rank() * count);
    }
  }

  void do_broadcast(const at::Tensor& tensor, int root) {
    auto* bytes = static_cast<std::byte*>(tensor.mutable_data_ptr());
    for (std::size_t begin = 0; begin < tensor.nbytes(); begin += SharedSegment::kSlotBytes) {
      const std::size_t count = std::min(SharedSegment::kSlotBytes, tensor.nbytes() - begin);
      const int turn = next_turn();
      if (rank() == root) std::memcpy(segment_.slot(turn, root), bytes + begin, count);
      segment_.barrier();
      if (rank() != root) std::memcpy(bytes + begin, segment_.slot(turn, root), count);
    }
  }

  SharedSegment segment_;
  std::int64_t turns_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace

std::shared_ptr<Communicator> connect_shared_memory(const GroupSetup& setup) {
  try {
    return std::make_shared<SharedMemoryCommunicator>(setup);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(Problem{ErrorCode::kPeerFailed,
                        "the other ranks of the host did not come",
                        error.what(),
                        {},
                        {},
                        {}});
  }
}

}  // namespace espalier

#include "engine/data/sample_queue.h"

#include <algorithm>

namespace espalier {

SampleQueue::SampleQueue(std::function<Sample(std::int64_t number)> make, std::int64_t first,
                         std::int64_t threads, std::int64_t ahead)
    : make_(std::move(make)),
      ahead_(std::max<std::int64_t>(1, ahead)),
      claimed_(first),
      wanted_(first) {
  for (std::int64_t i = 0; i < std::max<std::int64_t>(1, threads); ++i)
    threads_.emplace_back([this] { work(); });
}

SampleQueue::~SampleQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void SampleQueue::work() {
  while (true) {
    std::int64_t number = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || claimed_ < wanted_ + ahead_; });
      if (stopping_) return;
      number = claimed_++;
    }
    std::pair<Sample, std::exception_ptr> result;
    try {
      result.first = make_(number);
    } catch (...) {
      result.second = std::current_exception();  // rethrown by `take`, on the thread that asked
    }
    {
      const std::lock_guard lock(mutex_);
      if (number >= wanted_) ready_.emplace(number, std::move(result));
    }
    changed_.notify_all();
  }
}

Sample SampleQueue::take(std::int64_t number) {
  std::unique_lock lock(mutex_);
  if (number != wanted_) {
    wanted_ = number;
    claimed_ = std::max(claimed_, number);
    ready_.erase(ready_.begin(), ready_.lower_bound(number));
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return ready_.contains(number); });
  auto node = ready_.extract(number);
  wanted_ = number + 1;
  lock.unlock();
  changed_.notify_all();
  if (node.mapped().second) std::rethrow_exception(node.mapped().second);
  return std::move(node.mapped().first);
}

}  // namespace espalier

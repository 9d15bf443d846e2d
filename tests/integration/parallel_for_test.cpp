#include "espalier/ops/parallel_for.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace espalier::ops {
namespace {

class ParallelFor : public ::testing::Test {
 protected:
  ParallelFor() : before_(at::get_num_threads()) { at::set_num_threads(3); }
  ~ParallelFor() override { at::set_num_threads(before_); }

 private:
  int before_;
};

// Parts wait for each other: one after another they would never all be there.
TEST_F(ParallelFor, PartsRunAtTheSameTime) {
  std::atomic<int> there{0};
  std::atomic<int> met{0};
  parallel_for(0, 3, 1, [&](std::int64_t, std::int64_t) {
    ++there;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (there < 3 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    if (there == 3) ++met;
  });
  EXPECT_EQ(met, 3);
}

TEST_F(ParallelFor, EveryNumberComesOnce) {
  for (const std::int64_t count : {1, 2, 3, 4, 100, 101}) {
    for (const std::int64_t grain : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      parallel_for(5, 5 + count, grain, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t i = from; i < to; ++i) ++seen[static_cast<std::size_t>(i - 5)];
      });
      for (const auto& times : seen) EXPECT_EQ(times, 1) << count << " by " << grain;
    }
  }
}

TEST_F(ParallelFor, NothingToDoCallsNothing) {
  parallel_for(4, 4, 1, [](std::int64_t, std::int64_t) { FAIL() << "called"; });
}

TEST_F(ParallelFor, FewNumbersStayTogether) {
  int calls = 0;
  parallel_for(0, 10, 10, [&](std::int64_t from, std::int64_t to) {
    ++calls;
    EXPECT_EQ(to - from, 10);
  });
  EXPECT_EQ(calls, 1);
}

TEST_F(ParallelFor, InsideAnotherItRunsAlone) {
  std::atomic<int> calls{0};
  parallel_for(0, 3, 1, [&](std::int64_t, std::int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(0, 100, 1, [&](std::int64_t from, std::int64_t to) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      EXPECT_EQ(to - from, 100);
      ++calls;
    });
  });
  EXPECT_EQ(calls, 3);
}

TEST_F(ParallelFor, WhatAPartThrowsIsThrownHere) {
  const auto fail = [](std::int64_t from, std::int64_t) {
    if (from > 0) throw std::runtime_error("part");
  };
  EXPECT_THROW(parallel_for(0, 3, 1, fail), std::runtime_error);
}

}  // namespace
}  // namespace espalier::ops

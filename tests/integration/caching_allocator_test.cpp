// The allocator behind tensors of the CPU: what was given back is used again, and is counted.
#include "engine/memory/caching_allocator.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace espalier {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

std::int64_t now(const MemoryUse& use, MemoryPurpose purpose) {
  return use.now[static_cast<std::size_t>(purpose)];
}

TEST(CachingAllocator, BlocksAreAlignedAndTheirOwn) {
  CachingAllocator& allocator = CachingAllocator::instance();
  std::mt19937 random(7);
  std::vector<std::pair<c10::DataPtr, std::size_t>> blocks;
  for (int round = 0; round < 2000; ++round) {
    if (blocks.size() > 40 || (!blocks.empty() && random() % 2 == 0)) {
      const std::size_t at = random() % blocks.size();
      // Every byte still is what was written when the block was taken.
      const auto* bytes = static_cast<const unsigned char*>(blocks[at].first.get());
      const auto mark = static_cast<unsigned char>(blocks[at].second % 251);
      for (std::size_t i = 0; i < blocks[at].second; i += 97) ASSERT_EQ(bytes[i], mark);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    const std::size_t size = 1 + random() % (random() % 4 == 0 ? 3 * kMegabyte : 90'000);
    c10::DataPtr data = allocator.allocate(size);
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(data.get()) % 64, 0U);
    std::memset(data.get(), static_cast<int>(size % 251), size);
    blocks.emplace_back(std::move(data), size);
  }
}

TEST(CachingAllocator, AsksTheSystemOnlyUntilAStepHasRunOnce) {
  CachingAllocator& allocator = CachingAllocator::instance();
  const auto step = [&](std::size_t scale) {
    std::vector<c10::DataPtr> held;
    for (std::size_t i = 1; i <= 30; ++i) {
      held.push_back(allocator.allocate(i * scale * 40'000));
      if (i % 3 == 0) held.erase(held.begin() + static_cast<std::ptrdiff_t>(i / 4));
    }
  };
  step(10);
  step(10);
  const MemoryUse before = allocator.use();
  for (int i = 0; i < 20; ++i) step(static_cast<std::size_t>(1 + i % 10));
  EXPECT_EQ(allocator.use().mappings, before.mappings);
  EXPECT_EQ(allocator.use().reserved, before.reserved);
}

TEST(CachingAllocator, FreeNeighboursBecomeOneBlock) {
  CachingAllocator& allocator = CachingAllocator::instance();
  allocator.release_free();
  const std::int64_t reserved = allocator.use().reserved;
  std::vector<c10::DataPtr> parts;
  parts.reserve(8);
  for (int i = 0; i < 8; ++i) parts.push_back(allocator.allocate(3 * kMegabyte));
  const std::int64_t mappings = allocator.use().mappings;
  // In an order that joins with the block before, the one behind, and both.
  for (const std::size_t i : {1, 3, 2, 0, 7, 5, 6, 4}) parts[i].clear();
  const c10::DataPtr whole = allocator.allocate(24 * kMegabyte);
  EXPECT_EQ(allocator.use().mappings, mappings);
  EXPECT_GE(allocator.use().reserved, reserved);
}

TEST(CachingAllocator, CountsByPurposeAndGivesBack) {
  CachingAllocator& allocator = CachingAllocator::instance();
  const MemoryUse before = allocator.use();
  {
    c10::DataPtr data;
    {
      const MemoryPurposeScope scope(MemoryPurpose::kActivations);
      data = allocator.allocate(kMegabyte);
    }
    const c10::DataPtr other = allocator.allocate(100);
    MemoryUse use = allocator.use();
    EXPECT_EQ(now(use, MemoryPurpose::kActivations) - now(before, MemoryPurpose::kActivations),
              static_cast<std::int64_t>(kMegabyte));
    EXPECT_EQ(use.total() - before.total(), static_cast<std::int64_t>(kMegabyte) + 100);
    allocator.retag(data, MemoryPurpose::kGradients);
    use = allocator.use();
    EXPECT_EQ(now(use, MemoryPurpose::kActivations), now(before, MemoryPurpose::kActivations));
    EXPECT_EQ(now(use, MemoryPurpose::kGradients) - now(before, MemoryPurpose::kGradients),
              static_cast<std::int64_t>(kMegabyte));
    EXPECT_GE(use.total_peak, use.total());
  }
  EXPECT_EQ(allocator.use().total(), before.total());
  allocator.reset_peaks();
  EXPECT_EQ(allocator.use().total_peak, allocator.use().total());
}

TEST(CachingAllocator, LeavesForeignMemoryAlone) {
  const at::Tensor foreign = at::empty({10});  // of LibTorch's own allocator in this program
  const MemoryUse before = CachingAllocator::instance().use();
  CachingAllocator::instance().retag(foreign.storage().data_ptr(), MemoryPurpose::kGradients);
  EXPECT_EQ(CachingAllocator::instance().use().now, before.now);
}

TEST(CachingAllocator, ServesSeveralThreads) {
  CachingAllocator& allocator = CachingAllocator::instance();
  const std::int64_t before = allocator.use().total();
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&allocator, seed] {
      std::mt19937 random(seed);
      std::vector<c10::DataPtr> held(8);
      for (int i = 0; i < 3000; ++i) {
        const std::size_t size = 1 + random() % 200'000;
        c10::DataPtr data = allocator.allocate(size);
        std::memset(data.get(), static_cast<int>(seed), size);
        held[random() % held.size()] = std::move(data);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(allocator.use().total(), before);
}

TEST(CachingAllocator, SaysThatThereIsNotEnough) {
  EXPECT_THROW((void)CachingAllocator::instance().allocate(std::size_t{1} << 60),
               c10::OutOfMemoryError);
}

}  // namespace
}  // namespace espalier

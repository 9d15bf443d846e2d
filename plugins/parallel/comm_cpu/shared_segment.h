#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// Memory that the ranks of a group share, and a barrier in it. The memory has no name: nothing is
/// left behind, however the processes end. Layout: a header, then for
/// each of two turns a slot of `kSlotBytes` for every rank and one for results.
class SharedSegment {
 public:
  static constexpr std::size_t kSlotBytes = 1 << 20;
  static constexpr int kMostRanks = 256;

  /// Called by all ranks. Throws Error(kIo) when the system has not enough memory, and
  /// Error(kPeerFailed) when the others do not come or take the group for one of another size.
  explicit SharedSegment(const GroupSetup& setup);
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Of rank `rank`, or of results for rank `size`; `turn` is 0 or 1.
  std::byte* slot(int turn, int rank) const;
  /// Returns when all ranks have come. Throws Error(kPeerFailed) when one has ended or does not
  /// come in time, and on all others then too.
  void barrier();

 private:
  struct Header {
    std::atomic<std::uint32_t> arrived;
    std::atomic<std::uint32_t> generation;
    std::atomic<std::uint32_t> failed;
    std::atomic<std::int32_t> processes[kMostRanks];
  };
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

  struct Unmap {
    std::size_t bytes;
    void operator()(Header* header) const;
  };

  void map(const GroupSetup& setup);
  /// Rank whose process is gone, or -1.
  int missing_rank() const;
  [[noreturn]] void fail(const std::string& why);

  int rank_;
  int size_;
  std::chrono::milliseconds timeout_;
  std::unique_ptr<Header, Unmap> header_;
};

}  // namespace espalier

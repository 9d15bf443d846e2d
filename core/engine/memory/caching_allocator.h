#pragma once

#include <c10/core/Allocator.h>

#include <array>
#include <cstdint>
#include <mutex>
#include <set>

namespace espalier {

/// What a block of memory is for.
enum class MemoryPurpose : std::uint8_t {
  kBuffers = 0,
  kParameters,
  kGradients,
  kOptimizer,
  kActivations
};
inline constexpr std::size_t kMemoryPurposes = 5;
const char* memory_purpose_name(MemoryPurpose purpose);

/// What this thread allocates while the scope lives is for `purpose`.
class MemoryPurposeScope {
 public:
  explicit MemoryPurposeScope(MemoryPurpose purpose);
  MemoryPurposeScope(const MemoryPurposeScope&) = delete;
  MemoryPurposeScope& operator=(const MemoryPurposeScope&) = delete;
  ~MemoryPurposeScope();

 private:
  MemoryPurpose before_;
};

/// Bytes handed out, as they were asked for.
struct MemoryUse {
  std::array<std::int64_t, kMemoryPurposes> now{};
  std::array<std::int64_t, kMemoryPurposes> peak{};  ///< of each purpose on its own
  std::int64_t total_peak = 0;
  std::int64_t reserved = 0;  ///< mapped from the system for blocks that are not small
  std::int64_t mappings = 0;  ///< how often memory was asked of the system

  std::int64_t total() const;
};

/// LibTorch's CPU memory, kept by the process: tensors of a step get the memory of the step before,
/// so no page is faulted in twice. Best fit in mappings of huge pages, with neighbours joined again
/// when they are free; small blocks are the C library's. The C library alone gives every large
/// tensor back to the system, which then clears its pages again and again.
class CachingAllocator final : public c10::Allocator {
 public:
  /// The one of the process, which is never destroyed: tensors may outlive everything.
  static CachingAllocator& instance();
  /// Makes LibTorch use it, unless ESPALIER_ALLOCATOR=libtorch. Only before the first tensor.
  static void install();
  static bool installed();

  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  MemoryUse use() const;
  /// Peaks begin again at what is in use now.
  void reset_peaks();
  /// Moves a block that came from here to another purpose, for gradients, which are only known as
  /// such when the backward pass has ended. Other addresses are left alone.
  void retag(const c10::DataPtr& data, MemoryPurpose purpose);
  /// Gives the pages of free blocks back to the system, after a phase that needed more than the
  /// next.
  void release_free();

  struct Block;  ///< header in front of a block

 private:
  CachingAllocator() = default;

  /// By size, then by address.
  struct Smaller {
    using is_transparent = void;
    bool operator()(const Block* left, const Block* right) const;
    bool operator()(const Block* left, std::size_t size) const;
  };

  static void release(void* data);
  Block* take(std::size_t size);
  Block* map(std::size_t size);
  void unmap_free(std::size_t up_to);
  void give_back(Block* block);
  void join_next(Block* block);
  void count(MemoryPurpose purpose, std::int64_t bytes);

  mutable std::mutex mutex_;
  std::set<Block*, Smaller> free_;
  MemoryUse use_;
};

}  // namespace espalier

#include "engine/memory/caching_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

namespace espalier {

/// 64 bytes, so that the data behind it is as aligned as LibTorch's kernels want it.
struct alignas(64) CachingAllocator::Block {
  Block* previous = nullptr;  ///< neighbour in the mapping
  Block* next = nullptr;
  std::size_t size = 0;       ///< with this header
  std::size_t requested = 0;  ///< by the caller
  MemoryPurpose purpose = MemoryPurpose::kBuffers;
  bool small = false;  ///< from the C library
  bool free = false;

  void* data() { return this + 1; }
  static Block* of(void* data) { return static_cast<Block*>(data) - 1; }
};

namespace {

constexpr std::size_t kHeader = 64;
constexpr std::size_t kSmall = std::size_t{32} << 10;  // below it the C library is as good
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kMapping = std::size_t{32} << 20;  // the least that is mapped at once

thread_local MemoryPurpose current_purpose = MemoryPurpose::kBuffers;

std::size_t rounded_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Bytes from a place to the next that a huge page may begin at.
std::size_t to_huge_page(const void* place) {
  const auto address = reinterpret_cast<std::uintptr_t>(place);
  return rounded_up(address, kHugePage) - address;
}

std::size_t index_of(MemoryPurpose purpose) { return static_cast<std::size_t>(purpose); }

void report(void* data, std::int64_t bytes) {
  if (c10::memoryProfilingEnabled())
    c10::reportMemoryUsageToProfiler(data, bytes, 0, 0, c10::Device(c10::DeviceType::CPU));
}

[[noreturn]] void throw_out_of_memory(std::size_t bytes) {
  C10_THROW_ERROR(OutOfMemoryError, "the system gave no " + std::to_string(bytes) + " bytes");
}

}  // namespace

static_assert(sizeof(CachingAllocator::Block) == kHeader);

const char* memory_purpose_name(MemoryPurpose purpose) {
  constexpr std::array<const char*, kMemoryPurposes> kNames = {"buffers", "parameters", "gradients",
                                                               "optimizer", "activations"};
  return kNames[index_of(purpose)];
}

MemoryPurposeScope::MemoryPurposeScope(MemoryPurpose purpose) : before_(current_purpose) {
  current_purpose = purpose;
}

MemoryPurposeScope::~MemoryPurposeScope() { current_purpose = before_; }

std::int64_t MemoryUse::total() const {
  return std::accumulate(now.begin(), now.end(), std::int64_t{0});
}

bool CachingAllocator::Smaller::operator()(const Block* left, const Block* right) const {
  return left->size != right->size ? left->size < right->size : left < right;
}

bool CachingAllocator::Smaller::operator()(const Block* left, std::size_t size) const {
  return left->size < size;
}

CachingAllocator& CachingAllocator::instance() {
  static CachingAllocator* allocator = new CachingAllocator();
  return *allocator;
}

void CachingAllocator::install() {
  const char* choice = std::getenv("ESPALIER_ALLOCATOR");
  if (choice != nullptr && std::string(choice) == "libtorch") return;
  c10::SetCPUAllocator(&instance(), /*priority=*/1);
}

bool CachingAllocator::installed() { return c10::GetCPUAllocator() == &instance(); }

c10::DeleterFnPtr CachingAllocator::raw_deleter() const { return &CachingAllocator::release; }

void CachingAllocator::copy_data(void* to, const void* from, std::size_t bytes) const {
  std::memcpy(to, from, bytes);
}

c10::DataPtr CachingAllocator::allocate(std::size_t bytes) {
  const c10::Device cpu(c10::DeviceType::CPU);
  if (bytes == 0) return {nullptr, nullptr, &CachingAllocator::release, cpu};
  Block* block = nullptr;
  if (bytes < kSmall) {
    void* memory = nullptr;
    if (posix_memalign(&memory, alignof(Block), bytes + kHeader) != 0) throw_out_of_memory(bytes);
    block = new (memory) Block();
    block->small = true;
  }
  {
    const std::lock_guard lock(mutex_);
    if (block == nullptr) block = take(rounded_up(bytes + kHeader, kHeader));
    block->requested = bytes;
    block->purpose = current_purpose;
    count(block->purpose, static_cast<std::int64_t>(bytes));
  }
  report(block->data(), static_cast<std::int64_t>(bytes));
  return {block->data(), block->data(), &CachingAllocator::release, cpu};
}

void CachingAllocator::release(void* data) {
  if (data == nullptr) return;
  CachingAllocator& allocator = instance();
  Block* block = Block::of(data);
  report(data, -static_cast<std::int64_t>(block->requested));
  const bool small = block->small;
  {
    const std::lock_guard lock(allocator.mutex_);
    allocator.count(block->purpose, -static_cast<std::int64_t>(block->requested));
    if (!small) allocator.give_back(block);
  }
  if (small) std::free(block);
}

void CachingAllocator::count(MemoryPurpose purpose, std::int64_t bytes) {
  const std::size_t i = index_of(purpose);
  use_.now[i] += bytes;
  if (bytes < 0) return;
  use_.peak[i] = std::max(use_.peak[i], use_.now[i]);
  use_.total_peak = std::max(use_.total_peak, use_.total());
}

/// The smallest free block that holds `size`; what is left over becomes a free neighbour.
CachingAllocator::Block* CachingAllocator::take(std::size_t size) {
  const auto found = free_.lower_bound(size);
  Block* block = found != free_.end() ? *found : map(size);
  free_.erase(block);
  if (block->size >= size + kSmall) {
    auto* rest = new (reinterpret_cast<char*>(block) + size) Block();
    rest->size = block->size - size;
    rest->previous = block;
    rest->next = block->next;
    if (rest->next != nullptr) rest->next->previous = rest;
    rest->free = true;
    block->next = rest;
    block->size = size;
    free_.insert(rest);
  }
  block->free = false;
  return block;
}

CachingAllocator::Block* CachingAllocator::map(std::size_t size) {
  const std::size_t bytes = std::max(kMapping, rounded_up(size, kHugePage));
  // Whole mappings that were too small would only add to the process's size.
  unmap_free(size);
  // One huge page more, so that a whole number of them lies within.
  const std::size_t mapped = bytes + kHugePage;
  void* memory = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw_out_of_memory(bytes);
  const std::size_t before = to_huge_page(memory);
  char* start = static_cast<char*>(memory) + before;
  if (before > 0) ::munmap(memory, before);
  if (before < kHugePage) ::munmap(start + bytes, kHugePage - before);
  // No MADV_HUGEPAGE: steps are no faster with it, and the first one took twice as long, measured
  // in a virtual machine.
  use_.reserved += static_cast<std::int64_t>(bytes);
  ++use_.mappings;
  auto* block = new (start) Block();
  block->size = bytes;
  block->free = true;
  free_.insert(block);
  return block;
}

void CachingAllocator::unmap_free(std::size_t up_to) {
  std::vector<Block*> whole;
  for (Block* block : free_) {
    if (block->previous == nullptr && block->next == nullptr && block->size <= up_to)
      whole.push_back(block);
  }
  for (Block* block : whole) {
    free_.erase(block);
    use_.reserved -= static_cast<std::int64_t>(block->size);
    ::munmap(block, block->size);
  }
}

void CachingAllocator::join_next(Block* block) {
  Block* next = block->next;
  block->size += next->size;
  block->next = next->next;
  if (block->next != nullptr) block->next->previous = block;
}

void CachingAllocator::give_back(Block* block) {
  block->free = true;
  if (block->next != nullptr && block->next->free) {
    free_.erase(block->next);
    join_next(block);
  }
  if (block->previous != nullptr && block->previous->free) {
    block = block->previous;
    free_.erase(block);
    join_next(block);
  }
  free_.insert(block);
}

MemoryUse CachingAllocator::use() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

void CachingAllocator::reset_peaks() {
  const std::lock_guard lock(mutex_);
  use_.peak = use_.now;
  use_.total_peak = use_.total();
}

void CachingAllocator::retag(const c10::DataPtr& data, MemoryPurpose purpose) {
  if (data.get() == nullptr || data.get_deleter() != &CachingAllocator::release) return;
  const std::lock_guard lock(mutex_);
  Block* block = Block::of(data.get_context());
  count(block->purpose, -static_cast<std::int64_t>(block->requested));
  block->purpose = purpose;
  count(purpose, static_cast<std::int64_t>(block->requested));
}

void CachingAllocator::release_free() {
  const std::lock_guard lock(mutex_);
  unmap_free(SIZE_MAX);
  for (Block* block : free_) {
    char* begin = static_cast<char*>(block->data());
    begin += to_huge_page(begin);
    char* end = reinterpret_cast<char*>(block) + block->size;
    if (begin >= end) continue;
    const auto pages = static_cast<std::size_t>(end - begin) / kHugePage * kHugePage;
    if (pages > 0) ::madvise(begin, pages, MADV_DONTNEED);
  }
}

}  // namespace espalier

#include "shared_segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>
#include <fstream>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "espalier/base/descriptor.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kHeaderBytes = 1 << 16;
constexpr auto kLookInterval = std::chrono::milliseconds(200);  // for ranks that have ended

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  constexpr long kNanosecondsPerMillisecond = 1'000'000;
  const timespec limit{0, kLookInterval.count() * kNanosecondsPerMillisecond};
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, expected, &limit,
            nullptr, 0);
}

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr,
            nullptr, 0);
}

/// A process that has ended and waits to be collected by its parent counts as gone.
bool is_alive(pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  if (!std::getline(status, text)) return false;
  const std::size_t end_of_name = text.rfind(')');
  const char state = end_of_name + 2 < text.size() ? text[end_of_name + 2] : '?';
  return state != 'Z' && state != 'X';
}

Error shared_memory_error(const std::string& what, int failure, std::size_t bytes) {
  return Error(Problem{ErrorCode::kIo,
                       what,
                       std::string(::strerror(failure)),
                       std::to_string(bytes >> 20) + " MB that the ranks of the host share",
                       {},
                       "set dist_env.type = \"gloo\""});
}

void publish(const GroupSetup& setup, const char* key, const std::string& text) {
  setup.store->set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
}

std::string published(const GroupSetup& setup, const char* key) {
  const std::vector<std::uint8_t> text = setup.store->get(key);
  return {text.begin(), text.end()};
}

/// Memory without a name, which the system takes back however the processes end, and which the
/// size of /dev/shm (64 MB in a container) does not limit. Others reach it through rank 0's
/// descriptor.
Descriptor make_memory(const GroupSetup& setup, std::size_t bytes) {
  Descriptor descriptor(::memfd_create("espalier", MFD_CLOEXEC));
  // Reserved at once: memory that is missing later would end the process with a bus error.
  const int failure = descriptor.get() < 0
                          ? errno
                          : ::posix_fallocate(descriptor.get(), 0, static_cast<off_t>(bytes));
  publish(setup, "size", std::to_string(setup.size));
  if (failure == 0) {
    publish(setup, "memory",
            "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(descriptor.get()));
    return descriptor;
  }
  publish(setup, "memory", "");
  throw shared_memory_error("the ranks can't share memory", failure, bytes);
}

Descriptor open_memory(const GroupSetup& setup, std::size_t bytes) {
  // Another size is another layout: what lies beyond the end of the memory is a bus error.
  if (const std::string size = published(setup, "size"); size != std::to_string(setup.size)) {
    throw Error(Problem{ErrorCode::kPeerFailed, "ranks disagree on the size of their group",
                        std::to_string(setup.size) + " on rank " + std::to_string(setup.rank),
                        size + " on rank 0", "group " + setup.name,
                        "start all ranks with the same settings"});
  }
  const std::string path = published(setup, "memory");
  if (path.empty()) {
    throw Error(Problem{ErrorCode::kPeerFailed,
                        "rank 0 has no memory to share",
                        {},
                        {},
                        "group " + setup.name,
                        "see the error of rank 0"});
  }
  Descriptor descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (descriptor.get() < 0)
    throw shared_memory_error("the memory of rank 0 can't be opened: " + path, errno, bytes);
  return descriptor;
}

}  // namespace

void SharedSegment::Unmap::operator()(Header* header) const { ::munmap(header, bytes); }

SharedSegment::SharedSegment(const GroupSetup& setup)
    : rank_(setup.rank), size_(setup.size), timeout_(setup.timeout) {
  static_assert(sizeof(Header) <= kHeaderBytes);
  if (size_ > kMostRanks) {
    throw Error(Problem{ErrorCode::kUnsupported, "so many ranks can't share memory",
                        std::to_string(size_), "at most " + std::to_string(kMostRanks),
                        "group " + setup.name, "set dist_env.type = \"gloo\""});
  }
  map(setup);
  header_->processes[rank_] = static_cast<std::int32_t>(::getpid());
}

void SharedSegment::map(const GroupSetup& setup) {
  const std::size_t bytes = kHeaderBytes + 2 * kSlotBytes * static_cast<std::size_t>(size_ + 1);
  const Descriptor descriptor = rank_ == 0 ? make_memory(setup, bytes) : open_memory(setup, bytes);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.get(), 0);
  if (memory == MAP_FAILED) throw shared_memory_error("the ranks can't share memory", errno, bytes);
  // Zeros: the initial state.
  header_ = std::unique_ptr<Header, Unmap>(static_cast<Header*>(memory), Unmap{bytes});
  if (setup.store->add("mapped", 1) == size_) publish(setup, "all_mapped", "yes");
  setup.store->wait({"all_mapped"}, timeout_);  // until then others need rank 0's descriptor
}

std::byte* SharedSegment::slot(int turn, int rank) const {
  const auto index = static_cast<std::size_t>(turn) * static_cast<std::size_t>(size_ + 1) +
                     static_cast<std::size_t>(rank);
  return reinterpret_cast<std::byte*>(header_.get()) + kHeaderBytes + index * kSlotBytes;
}

int SharedSegment::missing_rank() const {
  for (int rank = 0; rank < size_; ++rank) {
    const pid_t process = header_->processes[rank];
    if (process != 0 && !is_alive(process)) return rank;
  }
  return -1;
}

void SharedSegment::fail(const std::string& why) {
  header_->failed = 1;
  header_->generation.fetch_add(1);
  futex_wake_all(header_->generation);
  throw Error(Problem{ErrorCode::kPeerFailed, "a collective failed", why, {}, {}, {}});
}

void SharedSegment::barrier() {
  constexpr int kSpins = 200;
  Header& header = *header_;
  const std::uint32_t generation = header.generation.load();
  if (header.failed != 0) fail("another rank found that one has ended");
  if (header.arrived.fetch_add(1) + 1 == static_cast<std::uint32_t>(size_)) {
    header.arrived = 0;
    header.generation.fetch_add(1);
    futex_wake_all(header.generation);
    return;
  }
  for (int i = 0; i < kSpins; ++i) {
    if (header.generation.load() != generation) break;
    __builtin_ia32_pause();
  }
  const auto end = steady_clock::now() + timeout_;
  while (header.generation.load() == generation) {
    futex_wait(header.generation, generation);
    if (header.generation.load() != generation) break;
    if (const int gone = missing_rank(); gone >= 0)
      fail("rank " + std::to_string(gone) + " of the group has ended");
    if (steady_clock::now() > end) fail("not all ranks came in time");
  }
  if (header.failed != 0) fail("another rank found that one has ended");
}

}  // namespace espalier

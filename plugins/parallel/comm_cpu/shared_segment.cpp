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

Error shared_memory_error(const std::string& name, int failure, std::size_t bytes) {
  return Error(Problem{ErrorCode::kIo, "the ranks can't share memory",
                       std::string(::strerror(failure)),
                       std::to_string(bytes >> 20) + " MB in /dev/shm", name,
                       "give the container more (--shm-size), or set dist_env.type = \"gloo\""});
}

}  // namespace

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

SharedSegment::~SharedSegment() { ::munmap(header_, bytes()); }

std::size_t SharedSegment::bytes() const {
  return kHeaderBytes + 2 * kSlotBytes * static_cast<std::size_t>(size_ + 1);
}

void SharedSegment::map(const GroupSetup& setup) {
  // Rank 0 makes the memory; all map it; then its name goes.
  std::string name;
  int descriptor = -1;
  if (rank_ == 0) {
    name = "/espalier-" + std::to_string(::getpid()) + "-" + setup.name;
    ::shm_unlink(name.c_str());  // of a process with this number that was killed half-way
    descriptor = ::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    // Reserved at once: memory that is missing later would end the process with a bus error.
    const int failure =
        descriptor < 0 ? errno : ::posix_fallocate(descriptor, 0, static_cast<off_t>(bytes()));
    if (failure != 0) {
      ::shm_unlink(name.c_str());
      if (descriptor >= 0) ::close(descriptor);
      setup.store->set("name", std::vector<std::uint8_t>{});
      throw shared_memory_error(name, failure, bytes());
    }
    setup.store->set("name", std::vector<std::uint8_t>(name.begin(), name.end()));
  } else {
    const std::vector<std::uint8_t> text = setup.store->get("name");
    name.assign(text.begin(), text.end());
    descriptor = ::shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
    if (descriptor < 0) throw shared_memory_error(name, errno, bytes());
  }
  void* memory = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  const int failure = errno;
  ::close(descriptor);
  if (memory == MAP_FAILED) throw shared_memory_error(name, failure, bytes());
  header_ = static_cast<Header*>(memory);  // zeros: the initial state
  if (setup.store->add("mapped", 1) == size_)
    setup.store->set("all_mapped", std::vector<std::uint8_t>{1});
  setup.store->wait({"all_mapped"}, timeout_);
  if (rank_ == 0) ::shm_unlink(name.c_str());
}

std::byte* SharedSegment::slot(int turn, int rank) const {
  const auto index = static_cast<std::size_t>(turn) * static_cast<std::size_t>(size_ + 1) +
                     static_cast<std::size_t>(rank);
  return reinterpret_cast<std::byte*>(header_) + kHeaderBytes + index * kSlotBytes;
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

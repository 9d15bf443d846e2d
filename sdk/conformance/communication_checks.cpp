// What strategies rely on in a CommBackend: collectives that compute what their definition says,
// for all dtypes and sizes, several at once; and an Error in time where a rank does not come. Ranks
// are threads of this process.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/remainder.h>

#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "espalier/base/error.h"
#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/sdk/communicator.h"

namespace espalier::conformance {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kMostRanks = 4;
constexpr milliseconds kPatience{20'000};  // of checks in which every rank comes
constexpr milliseconds kShort{700};        // of checks in which one does not
constexpr milliseconds kLate{15'000};      // an error so long after its timeout came too late

/// Sizes: none, odd ones, and for two dtypes more than a buffer of a megabyte holds.
constexpr std::int64_t kSmall = 1000;
constexpr std::int64_t kSizes[] = {0, 1, 2, 7, 1000, 1'300'003};
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,
                                     at::kInt,   at::kLong,   at::kByte};

std::string type_name(at::ScalarType type) { return std::string(at::toString(type)); }

GroupSetup setup_of(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name, int rank,
                    int size, milliseconds timeout) {
  GroupSetup setup;
  setup.name = name;
  setup.store = c10::make_intrusive<c10d::PrefixStore>(name, store);
  setup.rank = rank;
  setup.size = size;
  setup.address = "127.0.0.1";
  setup.one_host = true;
  setup.timeout = timeout;
  return setup;
}

c10::intrusive_ptr<c10d::Store> new_store(milliseconds timeout) {
  auto store = c10::make_intrusive<c10d::HashStore>();
  store->setTimeout(timeout);
  return store;
}

/// Runs `work` in a thread for each rank; the first thing thrown is thrown here.
void in_threads(int ranks, const std::function<void(int rank)>& work) {
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        work(rank);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

/// A group of `size` ranks, each with a backend of its own, as in a run.
void in_group(const Subject& subject, int size,
              const std::function<void(Communicator& group, int rank)>& work) {
  const auto store = new_store(kPatience);
  in_threads(size, [&](int rank) {
    const auto backend = subject.create<CommBackend>();
    const auto group = backend->connect(setup_of(store, "check", rank, size, kPatience));
    ESPALIER_ASSERT(group != nullptr, "connect gave a null pointer instead of a communicator");
    work(*group, rank);
    group->barrier("the end of a check");
  });
}

/// Small whole numbers, so that every dtype holds them and their sums in whatever order.
at::Tensor numbers(std::int64_t size, at::ScalarType type, int rank) {
  return at::remainder(at::arange(size, at::kLong) * 3 + 5 * rank, 16).to(type);
}

at::Tensor poisoned(std::int64_t size, at::ScalarType type) {
  return at::full({size}, 113, at::TensorOptions(type));
}

at::Tensor sum_of(std::int64_t size, at::ScalarType type, int ranks) {
  at::Tensor total = numbers(size, at::kLong, 0);
  for (int rank = 1; rank < ranks; ++rank) total += numbers(size, at::kLong, rank);
  return total.to(type);
}

/// Tries a collective for all ranks, dtypes and sizes. `check` is called by every rank and returns
/// what is wrong.
void for_all(const Subject& subject, Report& report,
             const std::function<std::string(Communicator&, int rank, std::int64_t size,
                                             at::ScalarType type)>& check) {
  std::mutex mutex;
  for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
    in_group(subject, ranks, [&](Communicator& group, int rank) {
      for (const at::ScalarType type : kTypes) {
        for (const std::int64_t size : kSizes) {
          if (size > kSmall && type != at::kFloat && type != at::kByte) continue;
          const std::string wrong = check(group, rank, size, type);
          const std::lock_guard lock(mutex);
          if (!wrong.empty() && report.outcome() != Outcome::kFail)
            report.fail(wrong,
                        std::to_string(ranks) + " ranks, rank " + std::to_string(rank) + ", " +
                            std::to_string(size) + " elements of " + type_name(type),
                        "what the definition in communicator.h says");
        }
      }
    });
    if (report.outcome() == Outcome::kFail) return;
  }
}

void check_ranks(const Subject& subject, Report& report) {
  const auto backend = subject.create<CommBackend>();
  if (backend->timeout() <= milliseconds(0) || backend->peer_timeout() <= milliseconds(0))
    report.fail("a timeout is not positive", std::to_string(backend->timeout().count()) + " ms",
                "more than 0", "let Config derive from DistEnvConfig and return its values");
  std::mutex mutex;
  for (int size = 1; size <= kMostRanks; ++size) {
    in_group(subject, size, [&](Communicator& group, int rank) {
      const std::lock_guard lock(mutex);
      if (group.rank() != rank || group.size() != size)
        report.fail("a communicator has another place than it was set up with",
                    "rank " + std::to_string(group.rank()) + " of " + std::to_string(group.size()),
                    "rank " + std::to_string(rank) + " of " + std::to_string(size));
    });
  }
}

void check_all_reduce(const Subject& subject, Report& report) {
  for_all(subject, report,
          [](Communicator& group, int rank, std::int64_t size, at::ScalarType type) -> std::string {
            const at::Tensor tensor = numbers(size, type, rank);
            group.all_reduce(tensor, "a check")->wait();
            return tensor.equal(sum_of(size, type, group.size())) ? ""
                                                                  : "all_reduce is not the sum";
          });
}

void check_all_gather(const Subject& subject, Report& report) {
  for_all(subject, report,
          [](Communicator& group, int rank, std::int64_t size, at::ScalarType type) -> std::string {
            const at::Tensor input = numbers(size, type, rank);
            const at::Tensor output = poisoned(size * group.size(), type);
            group.all_gather(output, input, "a check")->wait();
            std::vector<at::Tensor> parts;
            parts.reserve(static_cast<std::size_t>(group.size()));
            for (int from = 0; from < group.size(); ++from)
              parts.push_back(numbers(size, type, from));
            if (!input.equal(numbers(size, type, rank))) return "all_gather changes its input";
            return output.equal(at::cat(parts)) ? "" : "all_gather is not the inputs in order";
          });
}

void check_reduce_scatter(const Subject& subject, Report& report) {
  for_all(subject, report,
          [](Communicator& group, int rank, std::int64_t size, at::ScalarType type) -> std::string {
            const std::int64_t whole = size * group.size();
            const at::Tensor input = numbers(whole, type, rank);
            const at::Tensor output = poisoned(size, type);
            group.reduce_scatter(output, input, "a check")->wait();
            if (!input.equal(numbers(whole, type, rank))) return "reduce_scatter changes its input";
            return output.equal(sum_of(whole, type, group.size()).narrow(0, rank * size, size))
                       ? ""
                       : "reduce_scatter is not the rank's part of the sum";
          });
}

void check_broadcast(const Subject& subject, Report& report) {
  for_all(subject, report,
          [](Communicator& group, int rank, std::int64_t size, at::ScalarType type) -> std::string {
            for (const int root : {0, group.size() - 1}) {
              const at::Tensor tensor = numbers(size, type, rank);
              group.broadcast(tensor, root, "a check")->wait();
              if (!tensor.equal(numbers(size, type, root)))
                return "broadcast from rank " + std::to_string(root) + " is not that rank's tensor";
            }
            return {};
          });
}

void check_in_flight(const Subject& subject, Report& report) {
  constexpr std::int64_t kSize = 40'003;
  constexpr int kCount = 8;
  std::mutex mutex;
  in_group(subject, 3, [&](Communicator& group, int rank) {
    std::vector<at::Tensor> results;
    std::vector<std::shared_ptr<Work>> works;
    for (int i = 0; i < kCount; ++i) {
      // Ranks begin at different times.
      std::this_thread::sleep_for(milliseconds((rank * 3 + i) % 4));
      results.push_back(numbers(kSize + i, at::kFloat, rank));
      if (i % 2 == 0)
        works.push_back(group.all_reduce(results.back(), "a check"));
      else
        works.push_back(group.broadcast(results.back(), i % 3, "a check"));
    }
    for (int i = kCount; i-- > 0;) {
      works[static_cast<std::size_t>(i)]->wait();
      works[static_cast<std::size_t>(i)]->wait();  // may be called again
    }
    for (int i = 0; i < kCount; ++i) {
      const at::Tensor expected =
          i % 2 == 0 ? sum_of(kSize + i, at::kFloat, 3) : numbers(kSize + i, at::kFloat, i % 3);
      const std::lock_guard lock(mutex);
      if (!results[static_cast<std::size_t>(i)].equal(expected) &&
          report.outcome() != Outcome::kFail)
        report.fail("of several collectives under way one has another result",
                    "number " + std::to_string(i) + " of " + std::to_string(kCount),
                    "what it is alone", "calls are matched in the order in which ranks make them");
    }
  });
}

void check_groups(const Subject& subject, Report& report) {
  const auto store = new_store(kPatience);
  std::mutex mutex;
  in_threads(3, [&](int rank) {
    const auto backend = subject.create<CommBackend>();
    const auto all = backend->connect(setup_of(store, "all", rank, 3, kPatience));
    const auto pair =
        rank == 0 ? nullptr : backend->connect(setup_of(store, "pair", rank - 1, 2, kPatience));
    for (int round = 0; round < 4; ++round) {
      const at::Tensor three = numbers(500, at::kFloat, rank);
      const at::Tensor two = numbers(77, at::kFloat, rank);
      const auto one = all->all_reduce(three, "a check");
      const auto other = pair == nullptr ? nullptr : pair->all_reduce(two, "a check");
      if (other != nullptr) other->wait();
      one->wait();
      const at::Tensor of_pair = numbers(77, at::kFloat, 1) + numbers(77, at::kFloat, 2);
      const std::lock_guard lock(mutex);
      if (!three.equal(sum_of(500, at::kFloat, 3)) || (pair != nullptr && !two.equal(of_pair)))
        report.fail("two groups of the same ranks disturb each other", {},
                    "each adds up its own ranks", "use setup.name, or setup.store, of each group");
    }
    all->barrier("the end of a check");
  });
}

/// Runs what has to end in an Error(kPeerFailed), not much later than `timeout`.
void expect_failure(const std::string& what, milliseconds timeout,
                    const std::function<void()>& work, Report& report) {
  const auto start = steady_clock::now();
  try {
    work();
    report.fail(what + ": nothing is said", {}, "Error(kPeerFailed)",
                "wait no longer than setup.timeout, and throw then");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kPeerFailed)
      report.fail(what + ": an Error of another kind", error.what(), "Error(kPeerFailed)",
                  "the host tells the user which ranks it waited for when it gets this one");
    else if (error.problems().front().what.empty())
      report.fail(what + ": the Error says nothing", {}, "what failed");
  } catch (const std::exception& error) {
    report.fail(what + ": something else than an Error is thrown", error.what(),
                "Error(kPeerFailed)");
  }
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - start);
  if (seconds > timeout + kLate)
    report.fail(what + ": the error comes late", std::to_string(seconds.count()) + " s",
                "about " + std::to_string(timeout.count()) + " ms, the timeout of the group");
}

void check_missing_rank(const Subject& subject, Report& report) {
  expect_failure(
      "a rank of two never connects", kShort,
      [&] {
        const auto backend = subject.create<CommBackend>();
        const auto group = backend->connect(setup_of(new_store(kShort), "check", 0, 2, kShort));
        const at::Tensor tensor = numbers(3, at::kFloat, 0);
        group->all_reduce(tensor, "a check")->wait();
      },
      report);
}

void check_sizes_disagree(const Subject& subject, Report& report) {
  const auto store = new_store(kShort);
  expect_failure(
      "two ranks connect as groups of two and three", kShort,
      [&] {
        in_threads(2, [&](int rank) {
          const auto backend = subject.create<CommBackend>();
          const auto group = backend->connect(setup_of(store, "check", rank, 2 + rank, kShort));
          const at::Tensor tensor = numbers(3, at::kFloat, rank);
          group->all_reduce(tensor, "a check")->wait();
        });
      },
      report);
}

/// Both ranks come to one collective, and one to the next. False when the first failed already,
/// which with a short timeout may be the machine's doing.
bool both_then_one(const Subject& subject, milliseconds timeout, Report& report) {
  const auto store = new_store(kPatience);
  std::mutex mutex;
  std::shared_ptr<Communicator> idle;  // lives until the other has given up
  Report own;
  try {
    in_threads(2, [&](int rank) {
      const auto backend = subject.create<CommBackend>();
      const auto group = backend->connect(setup_of(store, "check", rank, 2, timeout));
      const at::Tensor tensor = numbers(3, at::kFloat, rank);
      group->all_reduce(tensor, "a check")->wait();
      if (rank == 1) {
        const std::lock_guard lock(mutex);
        idle = group;
        return;
      }
      expect_failure(
          "a rank does not come to a collective", timeout,
          [&] { group->all_reduce(tensor, "the check that nobody comes to")->wait(); }, own);
    });
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kPeerFailed || timeout == kPatience) throw;
    return false;
  }
  for (const Problem& remark : own.remarks())
    report.fail(remark.what, remark.found, remark.expected, remark.hint);
  return true;
}

void check_timeout(const Subject& subject, Report& report) {
  // A busy machine may hold a rank up for longer than a short timeout.
  for (const milliseconds timeout : {kShort, 6 * kShort, kPatience})
    if (both_then_one(subject, timeout, report)) return;
}

}  // namespace

std::span<const Check> communication_checks() {
  static constexpr Check kChecks[] = {
      {"communication.ranks", 2, "communicators have the place that they were set up with",
       check_ranks},
      {"communication.missing_rank", 2, "a rank that never connects is an Error in time",
       check_missing_rank},
      {"communication.sizes_disagree", 2, "ranks that disagree on the group get an Error",
       check_sizes_disagree},
      {"communication.timeout", 2, "a rank that does not come to a collective is an Error in time",
       check_timeout},
      {"communication.all_reduce", 3, "all_reduce gives every rank the sum", check_all_reduce},
      {"communication.all_gather", 3, "all_gather gives every rank all inputs in order",
       check_all_gather},
      {"communication.reduce_scatter", 3, "reduce_scatter gives each rank its part of the sum",
       check_reduce_scatter},
      {"communication.broadcast", 3, "broadcast gives every rank the root's tensor",
       check_broadcast},
      {"communication.in_flight", 3, "several collectives may be under way", check_in_flight},
      {"communication.groups", 3, "groups that share ranks don't disturb each other", check_groups},
  };
  return kChecks;
}

}  // namespace espalier::conformance

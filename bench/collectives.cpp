// Time of each collective over shared memory and over Gloo, among processes of this host.
//
//     bench/parallel_training.py --collectives runs it; by hand: a process for each rank, with
//     RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "engine/parallel/process_world.h"
#include "engine/run/component_library.h"
#include "espalier/base/error.h"
#include "launch/rank_environment.h"

namespace espalier {
namespace {

using std::chrono::steady_clock;

constexpr int kRepetitions = 9;

/// Median seconds of a call, of the slowest rank.
double time_of(Communicator& ranks, const std::function<std::shared_ptr<Work>()>& call) {
  std::vector<double> seconds;
  for (int i = 0; i <= kRepetitions; ++i) {
    ranks.barrier("start");
    const auto start = steady_clock::now();
    call()->wait();
    ranks.barrier("end");
    if (i > 0)
      seconds.push_back(std::chrono::duration<double>(steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRepetitions / 2, seconds.end());
  return seconds[kRepetitions / 2];
}

void measure(const std::string& backend, ComponentLibrary& library,
             const launch::RankEnvironment& environment) {
  ProcessWorld world(environment, library.create<CommBackend>(backend));
  Communicator& ranks = *world.all();
  for (const std::int64_t elements :
       {std::int64_t{1} << 10, std::int64_t{1} << 18, std::int64_t{1} << 24}) {
    const auto options = at::TensorOptions().dtype(at::kFloat);
    const at::Tensor whole = at::ones({elements}, options);
    const at::Tensor part = at::ones({elements / ranks.size()}, options);
    const std::vector<std::pair<const char*, std::function<std::shared_ptr<Work>()>>> calls = {
        {"all_reduce", [&] { return ranks.all_reduce(whole, "all_reduce"); }},
        {"all_gather", [&] { return ranks.all_gather(whole, part, "all_gather"); }},
        {"reduce_scatter", [&] { return ranks.reduce_scatter(part, whole, "reduce_scatter"); }},
        {"broadcast", [&] { return ranks.broadcast(whole, 0, "broadcast"); }}};
    for (const auto& [name, call] : calls) {
      const double seconds = time_of(ranks, call);
      if (ranks.rank() != 0) continue;
      std::printf(
          "{\"backend\": \"%s\", \"collective\": \"%s\", \"bytes\": %lld, \"seconds\": %.3e}\n",
          backend.c_str(), name, static_cast<long long>(whole.nbytes()), seconds);
    }
  }
  world.finish();
}

}  // namespace
}  // namespace espalier

int main() {
  try {
    espalier::ComponentLibrary library;
    espalier::launch::RankEnvironment environment = espalier::launch::read_rank_environment();
    for (const char* backend : {"shared_memory", "gloo"}) {
      espalier::measure(backend, library, environment);
      ++environment.master_port;
    }
  } catch (const espalier::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}

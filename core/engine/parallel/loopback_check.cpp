#include "engine/parallel/loopback_check.h"

#include <ATen/ops/full.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#define USE_C10D_GLOO  // NOLINT(readability-identifier-naming): LibTorch asks for this name
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace espalier {
namespace {

constexpr int kRanks = 2;
constexpr std::chrono::milliseconds kTimeout{5'000};
constexpr const char* kAddress = "127.0.0.1";

/// The sum of 1 and 2 as a rank gets it.
std::int64_t sum_over_ranks(const c10::intrusive_ptr<c10d::Store>& store, int rank) {
  const auto options = c10d::ProcessGroupGloo::Options::create(kTimeout);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(kAddress));
  c10d::ProcessGroupGloo group(store, rank, kRanks, options);
  std::vector<at::Tensor> numbers = {at::full({1}, rank + 1, at::kLong)};
  group.allreduce(numbers)->wait();
  return numbers[0].item<std::int64_t>();
}

}  // namespace

std::string loopback_check() {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  store->setTimeout(kTimeout);
  std::array<std::string, kRanks> problems;
  std::array<std::thread, kRanks> threads;
  const auto start = std::chrono::steady_clock::now();
  for (int rank = 0; rank < kRanks; ++rank) {
    threads[static_cast<std::size_t>(rank)] = std::thread([&, rank] {
      std::string& problem = problems[static_cast<std::size_t>(rank)];
      try {
        if (sum_over_ranks(store, rank) != 3) problem = "the sum over both is wrong";
      } catch (const std::exception& error) {
        problem = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
  for (const std::string& problem : problems) {
    if (problem.empty()) continue;
    std::string text = "ranks can't talk on ";
    text.append(kAddress).append(": ").append(problem, 0, problem.find('\n'));
    return text.append("; is there a loopback interface?");
  }
  char text[64];
  std::snprintf(text, sizeof text, "2 ranks on %s agreed through Gloo in %.0f ms", kAddress,
                spent.count());
  return text;
}

}  // namespace espalier

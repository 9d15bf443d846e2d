#include <chrono>
#include <cstdio>

#include "engine/commands/engine_command.h"
#include "engine/parallel/planning_world.h"
#include "engine/run/training_run.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr double kMegabyte = 1e6;

Value to_value(const StepEstimate& estimate, const CommunicationVolume& volume, int world,
               double gigabytes_per_second) {
  Table memory;
  memory.set("parameters", estimate.parameter_bytes);
  memory.set("gradients", estimate.gradient_bytes);
  memory.set("optimizer", estimate.optimizer_bytes);
  memory.set("peak_of_a_step", estimate.step_peak_bytes);
  memory.set("total", estimate.total_bytes());
  Table kinds;
  for (const auto& [kind, bytes] : volume.bytes) {
    Table entry;
    entry.set("calls", volume.calls.at(kind));
    entry.set("bytes", bytes);
    kinds.set(kind, std::move(entry));
  }
  Table communication;
  communication.set("bytes_sent", volume.total());
  communication.set("by_collective", std::move(kinds));
  communication.set("seconds_at_least",
                    static_cast<double>(volume.total()) / (gigabytes_per_second * 1e9));
  Table result;
  result.set("world_size", world);
  result.set("micro_batches", estimate.micro_batches);
  result.set("memory_of_a_rank", std::move(memory));
  result.set("communication_of_a_step", std::move(communication));
  return result;
}

void print(const StepEstimate& estimate, const CommunicationVolume& volume, int world,
           double gigabytes_per_second) {
  const auto megabytes = [](std::int64_t bytes) { return static_cast<double>(bytes) / kMegabyte; };
  std::printf("rank 0 of %d, with %lld micro-batches a step\n", world,
              static_cast<long long>(estimate.micro_batches));
  std::printf(
      "memory         parameters %.1f MB, optimizer %.1f MB, a step %.1f MB more (gradients "
      "%.1f MB of them), total %.1f MB\n",
      megabytes(estimate.parameter_bytes), megabytes(estimate.optimizer_bytes),
      megabytes(estimate.step_peak_bytes), megabytes(estimate.gradient_bytes),
      megabytes(estimate.total_bytes()));
  std::printf("communication  %.1f MB sent in a step, at least %.4f s at %.3g GB/s\n",
              megabytes(volume.total()),
              static_cast<double>(volume.total()) / (gigabytes_per_second * 1e9),
              gigabytes_per_second);
  for (const auto& [kind, bytes] : volume.bytes)
    std::printf("               %-15s %6lld calls  %10.2f MB\n", kind.c_str(),
                static_cast<long long>(volume.calls.at(kind)), megabytes(bytes));
}

}  // namespace

int run_estimate(const EngineCall& call) {
  const auto size = static_cast<int>(call.option("world").as_int());
  const double bandwidth = call.option("bandwidth").as_float();
  PlanningWorld world(size);
  TrainingRun run(call, world);
  const StepEstimate estimate = run.estimate([&] { world.reset_volume(); });
  if (call.flag("json"))
    std::puts(dump_json(to_value(estimate, world.volume(), size, bandwidth)).c_str());
  else
    print(estimate, world.volume(), size, bandwidth);
  return 0;
}

}  // namespace espalier

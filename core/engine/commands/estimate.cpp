#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "engine/commands/engine_command.h"
#include "engine/commands/plan_picture.h"
#include "engine/parallel/planning_world.h"
#include "engine/run/training_run.h"
#include "espalier/base/file.h"
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
  memory.set("activations", estimate.activation_bytes);
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
      "%.1f MB of them, activations up to %.1f MB), peak %.1f MB\n",
      megabytes(estimate.parameter_bytes), megabytes(estimate.optimizer_bytes),
      megabytes(estimate.step_peak_bytes), megabytes(estimate.gradient_bytes),
      megabytes(estimate.activation_bytes), megabytes(estimate.total_bytes()));
  std::printf("communication  %.1f MB sent in a step, at least %.4f s at %.3g GB/s\n",
              megabytes(volume.total()),
              static_cast<double>(volume.total()) / (gigabytes_per_second * 1e9),
              gigabytes_per_second);
  for (const auto& [kind, bytes] : volume.bytes)
    std::printf("               %-15s %6lld calls  %10.2f MB\n", kind.c_str(),
                static_cast<long long>(volume.calls.at(kind)), megabytes(bytes));
}

constexpr int kShownRanks = 8;

/// What a rank would be given of the model's parameters, without values.
std::vector<ParameterLayout> layouts_of_rank(const EngineCall& call, const LoadedModel& planned,
                                             int world_size, int rank) {
  PlanningWorld world(world_size, rank);
  const auto model = call.create<ModelProvider>("model")->build(planned.config);
  std::shared_ptr<ParallelStrategy> strategy;
  if (call.request.components.contains("distributed")) {
    strategy = call.create<ParallelStrategy>("distributed");
    strategy->set_up(world);
    if (strategy->applies_without_values()) strategy->apply(*model);
  }
  std::vector<ParameterLayout> layouts;
  for (const auto& parameter : model->parts().parameters)
    layouts.push_back(strategy != nullptr && strategy->applies_without_values()
                          ? strategy->layout(*parameter)
                          : whole_layout(*parameter, true));
  return layouts;
}

std::vector<PlannedParameter> planned_parameters(const LoadedModel& loaded) {
  std::map<const Parameter*, std::string> block_of;
  for (const Tower& tower : loaded.model->towers()) {
    for (const Block* block : tower.blocks)
      for (const auto& parameter : block->parameters()) block_of[parameter.get()] = block->name();
  }
  std::vector<PlannedParameter> parameters;
  for (const auto& parameter : loaded.model->parts().parameters) {
    std::int64_t bytes =
        static_cast<std::int64_t>(at::elementSize(parameter->value().scalar_type()));
    for (const std::int64_t size : parameter->spec().shape()) bytes *= size;
    parameters.push_back({block_of[parameter.get()], parameter->spec().shape(), bytes});
  }
  return parameters;
}

std::int64_t held_bytes(const std::vector<PlannedParameter>& parameters, const RankPlan& rank) {
  double bytes = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    for (const ShardPiece& piece : rank.layouts[i].pieces) {
      double share = 1;
      for (std::size_t d = 0; d < piece.extent.size(); ++d)
        share *= static_cast<double>(piece.extent[d]) / static_cast<double>(parameters[i].shape[d]);
      bytes += share * static_cast<double>(parameters[i].bytes);
    }
  }
  return static_cast<std::int64_t>(bytes);
}

std::string strategy_text(const EngineCall& call) {
  const auto found = call.request.components.find("distributed");
  return found == call.request.components.end() ? "one process"
                                                : found->second.component.component->name;
}

std::string draw(const EngineCall& call, const TrainingRun& run, const StepEstimate& estimate,
                 const CommunicationVolume& volume, int world, double gigabytes_per_second) {
  PlanPictureInput input;
  input.title = strategy_text(call) + " on " + std::to_string(world) +
                " ranks: " + call.option("recipe").find_path("model.path")->as_string();
  input.world_size = world;
  input.parameters = planned_parameters(run.model());
  input.collectives = volume.collectives;
  input.step_seconds = estimate.step_seconds;
  input.bytes_per_second = gigabytes_per_second * 1e9;
  for (int rank = 0; rank < std::min(world, kShownRanks); ++rank) {
    RankPlan& plan = input.ranks.emplace_back();
    plan.rank = rank;
    plan.layouts = layouts_of_rank(call, run.model(), world, rank);
    plan.parameters = held_bytes(input.parameters, plan);
    const double share =
        static_cast<double>(plan.parameters) /
        static_cast<double>(std::max<std::int64_t>(1, input.ranks.front().parameters));
    plan.gradients = std::llround(static_cast<double>(estimate.gradient_bytes) * share);
    plan.optimizer = std::llround(static_cast<double>(estimate.optimizer_bytes) * share);
    plan.activations = estimate.activation_bytes;
    plan.buffers = std::max<std::int64_t>(
        0, estimate.total_bytes() - estimate.parameter_bytes - estimate.gradient_bytes -
               estimate.optimizer_bytes - estimate.activation_bytes);
  }
  return plan_picture(input);
}

}  // namespace

int run_estimate(const EngineCall& call) {
  const auto size = static_cast<int>(call.option("world").as_int());
  const double bandwidth = call.option("bandwidth").as_float();
  PlanningWorld world(size);
  TrainingRun run(call, world);
  const StepEstimate estimate = run.estimate([&] { world.reset_volume(); });
  const CommunicationVolume volume = world.volume();
  if (const std::string plot = call.text("plot"); !plot.empty())
    write_file_atomically(plot, draw(call, run, estimate, volume, size, bandwidth));
  if (call.flag("json"))
    std::puts(dump_json(to_value(estimate, volume, size, bandwidth)).c_str());
  else
    print(estimate, volume, size, bandwidth);
  return 0;
}

}  // namespace espalier

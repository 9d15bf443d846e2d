#include "espalier/conformance/check.h"

#include <map>

#include "espalier/conformance/interfaces.h"

namespace espalier::conformance {
namespace {

const std::map<std::string_view, std::span<const Check> (*)()>& checks_by_interface() {
  static const std::map<std::string_view, std::span<const Check> (*)()> kChecks = {
      {"Adapter", adapter_checks},           {"CheckpointFormat", checkpoint_checks},
      {"CommBackend", communication_checks}, {"Dataset", dataset_checks},
      {"KernelPack", kernel_checks},         {"Loss", loss_checks},
      {"LrScheduler", schedule_checks},      {"ModelProvider", model_checks},
      {"Objective", objective_checks},       {"Optimizer", optimizer_checks},
      {"ParallelStrategy", strategy_checks}, {"Quantizer", quantizer_checks},
      {"TokenizerFormat", tokenizer_checks},
  };
  return kChecks;
}

}  // namespace

std::span<const Check> checks_of(std::string_view interface) {
  const auto found = checks_by_interface().find(interface);
  return found == checks_by_interface().end() ? std::span<const Check>() : found->second();
}

std::vector<std::string> checked_interfaces() {
  std::vector<std::string> names;
  for (const auto& [name, checks] : checks_by_interface()) names.emplace_back(name);
  return names;
}

}  // namespace espalier::conformance

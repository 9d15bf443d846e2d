#include "config/sections.h"

#include "config/host_config.h"

namespace espalier::config {
namespace {

template <class Config>
SchemaSpec schema_of() {
  return Config::schema().spec();
}

constexpr Section kSections[] = {
    {.name = "", .schema = schema_of<RunConfig>},
    {.name = "model", .schema = schema_of<ModelConfig>},
    {.name = "teacher_model", .schema = schema_of<TeacherModelConfig>},
    {.name = "freeze_config", .schema = schema_of<FreezeConfig>},
    {.name = "dataset", .interface = "Dataset", .required = true},
    {.name = "validation_dataset", .interface = "Dataset", .type_like = "dataset", .named = true},
    {.name = "dataloader", .schema = schema_of<DataloaderConfig>},
    {.name = "packed_sequence", .schema = schema_of<PackedSequenceConfig>},
    {.name = "step_scheduler", .schema = schema_of<StepSchedulerConfig>},
    {.name = "objective", .interface = "Objective", .required = true, .has_default = true},
    {.name = "loss_fn", .interface = "Loss", .required = true, .has_default = true},
    {.name = "optimizer", .interface = "Optimizer", .required = true, .has_default = true},
    {.name = "lr_scheduler", .interface = "LrScheduler", .has_default = true},
    {.name = "clip_grad_norm", .schema = schema_of<ClipGradNormConfig>},
    {.name = "checkpoint", .schema = schema_of<CheckpointConfig>},
    {.name = "early_stopping", .schema = schema_of<EarlyStoppingConfig>},
    {.name = "ema", .schema = schema_of<EmaConfig>},
    {.name = "statistics", .schema = schema_of<StatisticsConfig>},
    {.name = "generation_samples", .schema = schema_of<GenerationSamplesConfig>},
    {.name = "dist_env", .interface = "CommBackend", .has_default = true},
    {.name = "distributed", .interface = "ParallelStrategy", .has_default = true},
    {.name = "peft", .interface = "Adapter"},
    {.name = "quantization", .interface = "Quantizer"},
    {.name = "kernels", .interface = "KernelPack"},
    {.name = "logger", .interface = "Logger", .named = true},
};

}  // namespace

std::span<const Section> sections() { return kSections; }

const Section* find_section(std::string_view key) {
  for (const Section& section : kSections) {
    if (!section.name.empty() && section.name == key) return &section;
  }
  for (const Section& section : kSections) {
    const std::size_t size = section.name.size();
    if (section.named && key.size() > size + 1 && key.starts_with(section.name) && key[size] == '_')
      return &section;
  }
  return nullptr;
}

}  // namespace espalier::config

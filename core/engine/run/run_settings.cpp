#include "engine/run/run_settings.h"

namespace espalier {
namespace {

template <class Config>
Config section(const Value& recipe, const char* name) {
  const Value* found = recipe.find(name);
  return Config::schema().parse(found == nullptr ? Value(Table()) : *found, name);
}

config::RunConfig run_section(const Value& recipe) {
  Table keys;
  const ConfigSchema<config::RunConfig> schema = config::RunConfig::schema();
  for (const FieldSpec& field : schema.spec().fields) {
    if (const Value* value = recipe.find(field.name)) keys.set(field.name, *value);
  }
  return schema.parse(keys);
}

}  // namespace

RunSettings::RunSettings(const Value& recipe)
    : run(run_section(recipe)),
      model(section<config::ModelConfig>(recipe, "model")),
      teacher_model(section<config::TeacherModelConfig>(recipe, "teacher_model")),
      freeze(section<config::FreezeConfig>(recipe, "freeze_config")),
      dataloader(section<config::DataloaderConfig>(recipe, "dataloader")),
      packed_sequence(section<config::PackedSequenceConfig>(recipe, "packed_sequence")),
      step_scheduler(section<config::StepSchedulerConfig>(recipe, "step_scheduler")),
      clip_grad_norm(section<config::ClipGradNormConfig>(recipe, "clip_grad_norm")),
      checkpoint(section<config::CheckpointConfig>(recipe, "checkpoint")),
      early_stopping(section<config::EarlyStoppingConfig>(recipe, "early_stopping")),
      ema(section<config::EmaConfig>(recipe, "ema")),
      statistics(section<config::StatisticsConfig>(recipe, "statistics")),
      generation_samples(section<config::GenerationSamplesConfig>(recipe, "generation_samples")) {}

}  // namespace espalier

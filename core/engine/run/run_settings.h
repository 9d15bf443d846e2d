#pragma once

#include "config/host_config.h"
#include "espalier/base/value.h"

namespace espalier {

/// The host's own sections of a recipe, typed.
struct RunSettings {
  config::RunConfig run;
  config::ModelConfig model;
  config::TeacherModelConfig teacher_model;
  config::FreezeConfig freeze;
  config::DataloaderConfig dataloader;
  config::PackedSequenceConfig packed_sequence;
  config::StepSchedulerConfig step_scheduler;
  config::ClipGradNormConfig clip_grad_norm;
  config::CheckpointConfig checkpoint;
  config::EarlyStoppingConfig early_stopping;
  config::EmaConfig ema;
  config::StatisticsConfig statistics;
  config::GenerationSamplesConfig generation_samples;

  explicit RunSettings(const Value& recipe);
};

}  // namespace espalier

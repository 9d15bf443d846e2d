#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/config_schema.h"

/// The sections of a recipe that belong to the host itself. Sections that name a component are
/// declared by the component's plugin.
namespace espalier::config {

/// The keys outside all sections.
struct RunConfig {
  std::int64_t seed = 42;
  std::string device = "auto";
  std::string output_dir;  ///< empty in the recipe: "runs/" and the recipe's name

  static ConfigSchema<RunConfig> schema();
};

struct ModelConfig {
  std::string path;
  bool from_config = false;
  std::string provider;
  std::string tokenizer;
  std::string checkpoint_format;
  std::string task = "auto";
  std::map<std::string, Value> config;  ///< overrides of config.json
  std::string dtype = "auto";
  std::string compute_dtype = "auto";
  std::string attn_implementation = "auto";
  bool share_prefixes = true;

  static ConfigSchema<ModelConfig> schema();
};

/// A second model that objectives may learn from.
struct TeacherModelConfig {
  std::string path;  ///< empty: none
  std::string dtype = "auto";
  std::string compute_dtype = "auto";

  static ConfigSchema<TeacherModelConfig> schema();
};

/// What is not trained.
struct FreezeConfig {
  bool freeze_vision_tower = true;
  bool freeze_audio_tower = false;
  bool freeze_language_model = false;
  std::vector<std::string> patterns;
  std::vector<std::string> except;

  static ConfigSchema<FreezeConfig> schema();
};

struct DataloaderConfig {
  bool shuffle = true;
  std::int64_t num_workers = 1;
  std::int64_t prefetch_factor = 2;
  bool drop_last = false;
  std::int64_t pad_seq_len_divisible = 1;
  bool padding_free = false;
  bool group_by_length = false;
  bool token_cache = false;
  std::string token_cache_dir;

  static ConfigSchema<DataloaderConfig> schema();
};

struct PackedSequenceConfig {
  std::int64_t packed_sequence_size = 0;
  std::string packing_strategy = "sequential";
  std::int64_t window = 1024;

  static ConfigSchema<PackedSequenceConfig> schema();
};

struct StepSchedulerConfig {
  std::int64_t global_batch_size = 32;
  std::int64_t local_batch_size = 8;
  std::optional<std::int64_t> max_steps;
  std::optional<std::int64_t> num_epochs;  ///< 1 where max_steps is not given either
  std::optional<std::int64_t> val_every_steps;
  bool val_at_start = false;
  std::optional<std::int64_t> ckpt_every_steps;

  static ConfigSchema<StepSchedulerConfig> schema();
};

struct ClipGradNormConfig {
  double max_norm = 1.0;  ///< 0: the norm is measured and nothing is clipped

  static ConfigSchema<ClipGradNormConfig> schema();
};

struct CheckpointConfig {
  bool enabled = true;
  std::int64_t max_recent_checkpoints = 2;
  bool is_async = false;
  std::string best_metric;  ///< empty: no best checkpoint is kept
  std::string best_mode = "min";

  static ConfigSchema<CheckpointConfig> schema();
};

struct EarlyStoppingConfig {
  std::string metric = "validation.loss";
  std::int64_t patience = 0;  ///< 0: the run goes to its end
  double min_delta = 0.0;
  std::string mode = "min";

  static ConfigSchema<EarlyStoppingConfig> schema();
};

/// Averages of the weights over the steps.
struct EmaConfig {
  double decay = 0.0;  ///< 0: none
  bool validate = true;
  bool export_final = true;

  static ConfigSchema<EmaConfig> schema();
};

struct StatisticsConfig {
  std::int64_t every = 0;  ///< 0: none
  bool activations = true;

  static ConfigSchema<StatisticsConfig> schema();
};

/// Texts that the model writes at each validation.
struct GenerationSamplesConfig {
  std::vector<std::string> prompts;
  std::string file;
  std::int64_t max_new_tokens = 64;
  double temperature = 0.0;  ///< 0: the most likely token
  std::int64_t top_k = 0;
  double top_p = 1.0;
  double repetition_penalty = 1.0;
  std::int64_t seed = 0;

  static ConfigSchema<GenerationSamplesConfig> schema();
};

}  // namespace espalier::config

#include "config/host_config.h"

namespace espalier::config {

ConfigSchema<RunConfig> RunConfig::schema() {
  return ConfigSchema<RunConfig>()
      .field("seed", &RunConfig::seed,
             "start of all randomness: shuffling, dropout, initialisation")
      .at_least(0)
      .field("device", &RunConfig::device,
             "where the run computes; auto: on the GPU where there is one")
      .one_of({"auto", "cpu", "cuda"})
      .field("output_dir", &RunConfig::output_dir,
             "the run folder; default: runs/ and the recipe's name");
}

ConfigSchema<ModelConfig> ModelConfig::schema() {
  const std::vector<std::string> dtypes = {"auto", "float32", "bfloat16", "float16"};
  return ConfigSchema<ModelConfig>()
      .field("path", &ModelConfig::path, "a model folder, or a hub id that is in the local cache")
      .required()
      .field("from_config", &ModelConfig::from_config,
             "start with random weights, as config.json says; weights in the folder are not read")
      .field("provider", &ModelConfig::provider,
             "the component that builds the model, as vendor.name/component; empty: the one that "
             "serves the architecture in config.json")
      .field(
          "tokenizer", &ModelConfig::tokenizer,
          "the component that reads the tokenizer, a TokenizerFormat; empty: by the files in the "
          "folder")
      .field("checkpoint_format", &ModelConfig::checkpoint_format,
             "the component that reads the weights, a CheckpointFormat; empty: by the files in the "
             "folder")
      .field("task", &ModelConfig::task,
             "what stands on the decoder; auto: by the architecture in config.json. "
             "sequence_classification gives each text num_labels scores (one: a reward or a "
             "regression), token_classification each token, embedding nothing")
      .one_of({"auto", "causal_lm", "sequence_classification", "token_classification", "embedding"})
      .field("config", &ModelConfig::config,
             "keys of config.json with other values, as in model.config.rope_theta = 1e6")
      .field("dtype", &ModelConfig::dtype, "how weights are stored; auto: as in the checkpoint")
      .one_of(dtypes)
      .field("compute_dtype", &ModelConfig::compute_dtype,
             "how products are computed; auto: what is fast on this machine")
      .one_of(dtypes)
      .field("attn_implementation", &ModelConfig::attn_implementation,
             "how attention is computed; what this build lacks falls back to the next of "
             "flash_attention_4, _3, _2, sdpa, eager")
      .one_of(
          {"auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4"})
      .field("share_prefixes", &ModelConfig::share_prefixes,
             "what texts of a micro-batch begin with alike (a system prompt, the prompt of two "
             "answers) is computed once; not where an adapter has dropout, nor in families with "
             "experts or layers of their own");
}

ConfigSchema<TeacherModelConfig> TeacherModelConfig::schema() {
  const std::vector<std::string> dtypes = {"auto", "float32", "bfloat16", "float16"};
  return ConfigSchema<TeacherModelConfig>()
      .field("path", &TeacherModelConfig::path,
             "the model to learn from, a folder or a hub id; for objectives that have a teacher")
      .field("dtype", &TeacherModelConfig::dtype, "how its weights are stored")
      .one_of(dtypes)
      .field("compute_dtype", &TeacherModelConfig::compute_dtype, "how its products are computed")
      .one_of(dtypes);
}

ConfigSchema<FreezeConfig> FreezeConfig::schema() {
  return ConfigSchema<FreezeConfig>()
      .field("freeze_vision_tower", &FreezeConfig::freeze_vision_tower,
             "the part of the model that sees images is not trained")
      .field("freeze_audio_tower", &FreezeConfig::freeze_audio_tower,
             "the part of the model that hears is not trained")
      .field("freeze_language_model", &FreezeConfig::freeze_language_model,
             "the part of a model of several that reads and writes text is not trained")
      .field("patterns", &FreezeConfig::patterns,
             "parameters that are not trained: names, with '*' and '?' as wildcards")
      .or_single()
      .field("except", &FreezeConfig::except, "of them those that are trained all the same")
      .or_single();
}

ConfigSchema<DataloaderConfig> DataloaderConfig::schema() {
  return ConfigSchema<DataloaderConfig>()
      .field("shuffle", &DataloaderConfig::shuffle, "another order in each epoch, from the seed")
      .field("num_workers", &DataloaderConfig::num_workers,
             "threads that prepare batches; 0: the training thread does")
      .at_least(0)
      .field("prefetch_factor", &DataloaderConfig::prefetch_factor,
             "batches ready ahead, for each thread")
      .at_least(1)
      .field("drop_last", &DataloaderConfig::drop_last,
             "leave out the last batch when it is not full")
      .field("pad_seq_len_divisible", &DataloaderConfig::pad_seq_len_divisible,
             "the padded length of a batch is rounded up to a multiple of this")
      .at_least(1)
      .field("padding_free", &DataloaderConfig::padding_free,
             "put the samples of a micro-batch into one row instead of padding them")
      .field("group_by_length", &DataloaderConfig::group_by_length,
             "samples of like length go into the same steps: 50 steps' worth is sorted at a time")
      .field("token_cache", &DataloaderConfig::token_cache,
             "keep the tokens of the samples in a file for the next run over the same data")
      .field("token_cache_dir", &DataloaderConfig::token_cache_dir,
             "folder of those files; default: tokens/ in $ESPALIER_CACHE or ~/.cache/espalier");
}

ConfigSchema<PackedSequenceConfig> PackedSequenceConfig::schema() {
  return ConfigSchema<PackedSequenceConfig>()
      .field("packed_sequence_size", &PackedSequenceConfig::packed_sequence_size,
             "tokens of a pack of several samples; 0: no packing")
      .at_least(0)
      .field(
          "packing_strategy", &PackedSequenceConfig::packing_strategy,
          "sequential: samples in order, as long as they fit; best_fit: the samples of a window, "
          "longest first, each into the fullest pack that has room")
      .one_of({"sequential", "best_fit"})
      .field("window", &PackedSequenceConfig::window, "samples that best_fit packs together")
      .at_least(1);
}

ConfigSchema<StepSchedulerConfig> StepSchedulerConfig::schema() {
  return ConfigSchema<StepSchedulerConfig>()
      .field("global_batch_size", &StepSchedulerConfig::global_batch_size,
             "samples of one optimizer step, over all ranks and micro-batches")
      .at_least(1)
      .field("local_batch_size", &StepSchedulerConfig::local_batch_size,
             "samples of one micro-batch")
      .at_least(1)
      .field("max_steps", &StepSchedulerConfig::max_steps, "stop after that many optimizer steps")
      .at_least(1)
      .field("num_epochs", &StepSchedulerConfig::num_epochs,
             "stop after that many passes over the data; default: 1 without max_steps")
      .at_least(1)
      .field("val_every_steps", &StepSchedulerConfig::val_every_steps,
             "validate after every so many steps")
      .at_least(1)
      .field("val_at_start", &StepSchedulerConfig::val_at_start,
             "validate before the first step too")
      .field("ckpt_every_steps", &StepSchedulerConfig::ckpt_every_steps,
             "write a checkpoint after every so many steps")
      .at_least(1);
}

ConfigSchema<ClipGradNormConfig> ClipGradNormConfig::schema() {
  return ConfigSchema<ClipGradNormConfig>()
      .field("max_norm", &ClipGradNormConfig::max_norm,
             "largest norm of all gradients; 0: no clipping")
      .at_least(0);
}

ConfigSchema<CheckpointConfig> CheckpointConfig::schema() {
  return ConfigSchema<CheckpointConfig>()
      .field("enabled", &CheckpointConfig::enabled, "write checkpoints")
      .field("max_recent_checkpoints", &CheckpointConfig::max_recent_checkpoints,
             "how many are kept; older ones are removed")
      .at_least(1)
      .field("is_async", &CheckpointConfig::is_async,
             "write a snapshot while training goes on; takes memory for one more copy of what is "
             "saved")
      .field("best_metric", &CheckpointConfig::best_metric,
             "the checkpoint with the best value of this is kept too, as checkpoints/best: a log "
             "and a number of its lines, such as validation.loss; empty: none")
      .field("best_mode", &CheckpointConfig::best_mode, "what is better: less or more")
      .one_of({"min", "max"});
}

ConfigSchema<EarlyStoppingConfig> EarlyStoppingConfig::schema() {
  return ConfigSchema<EarlyStoppingConfig>()
      .field("metric", &EarlyStoppingConfig::metric,
             "what is watched: a log and a number of its lines, such as validation.loss")
      .field("patience", &EarlyStoppingConfig::patience,
             "the run ends after that many validations in a row without a better value; 0: never")
      .at_least(0)
      .field("min_delta", &EarlyStoppingConfig::min_delta, "by how much a better value is better")
      .at_least(0)
      .field("mode", &EarlyStoppingConfig::mode, "what is better: less or more")
      .one_of({"min", "max"});
}

ConfigSchema<EmaConfig> EmaConfig::schema() {
  return ConfigSchema<EmaConfig>()
      .field("decay", &EmaConfig::decay,
             "after each step, average = decay * average + (1 - decay) * weights; 0: no average")
      .at_least(0)
      .less_than(1)
      .field("validate", &EmaConfig::validate,
             "validate the average too, logged as ema_loss beside loss")
      .field("export", &EmaConfig::export_final,
             "write the average as OUTPUT_DIR/final_ema at the end");
}

ConfigSchema<StatisticsConfig> StatisticsConfig::schema() {
  return ConfigSchema<StatisticsConfig>()
      .field("every", &StatisticsConfig::every,
             "after every so many steps, norm, largest value and share of zeros of the gradients "
             "and activations of each block go to statistics.jsonl; 0: never")
      .at_least(0)
      .field("activations", &StatisticsConfig::activations, "of activations too");
}

ConfigSchema<GenerationSamplesConfig> GenerationSamplesConfig::schema() {
  return ConfigSchema<GenerationSamplesConfig>()
      .field("prompts", &GenerationSamplesConfig::prompts,
             "texts that the model continues at each validation; the answers go to samples.jsonl")
      .or_single()
      .field("file", &GenerationSamplesConfig::file,
             "further ones, JSON Lines with prompt or messages in each")
      .field("max_new_tokens", &GenerationSamplesConfig::max_new_tokens,
             "longest answer, in tokens")
      .at_least(1)
      .field("temperature", &GenerationSamplesConfig::temperature,
             "0: the most likely token each time; otherwise tokens are drawn")
      .at_least(0)
      .field("top_k", &GenerationSamplesConfig::top_k, "draw from the k most likely tokens; 0: all")
      .at_least(0)
      .field("top_p", &GenerationSamplesConfig::top_p,
             "draw from the most likely tokens that have this probability together")
      .more_than(0)
      .at_most(1)
      .field("repetition_penalty", &GenerationSamplesConfig::repetition_penalty,
             "above 1: tokens of the text so far become less likely")
      .more_than(0)
      .field("seed", &GenerationSamplesConfig::seed, "start of the draws, the same each time")
      .at_least(0);
}

}  // namespace espalier::config

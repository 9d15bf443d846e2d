#include "config/reference_sections.h"

#include "espalier/base/json.h"

namespace espalier::config {
namespace {

/// Keys that are called and mean the same are left out. "" holds Automodel's defaults where ours
/// differ.
constexpr const char* kSections = R"json({
"model": {
  "pretrained_model_name_or_path": "path",
  "torch_dtype": "dtype",
  "trust_remote_code": {"only": false},
  "force_hf": {"note": "there is one implementation of each model"},
  "use_liger_kernel": {"note": "kernels are chosen by [kernels]"},
  "use_sdpa_patching": {"note": "attention is chosen by model.attn_implementation"},
  "sdpa_method": {"note": "attention is chosen by model.attn_implementation"},
  "cache_dir": {"note": "the hub cache is found by HF_HOME"},
  "use_cache": {"note": "training keeps no cache"}
},
"teacher_model": {
  "pretrained_model_name_or_path": "path",
  "torch_dtype": "dtype",
  "trust_remote_code": {"only": false},
  "force_hf": {"note": "there is one implementation of each model"},
  "use_liger_kernel": {"note": "kernels are chosen by [kernels]"},
  "use_sdpa_patching": {"note": "attention is chosen by model.attn_implementation"}
},
"step_scheduler": {
  "": {"global_batch_size": 32, "local_batch_size": 1, "num_epochs": 10, "ckpt_every_steps": 100},
  "save_checkpoint_every_epoch": {"only": false},
  "preemption_signal": {"only": ["SIGTERM", "TERM", 15]},
  "start_step": {"only": 0},
  "start_epoch": {"only": 0},
  "log_remote_every_steps": {"note": "every step is logged"},
  "loss_average_window_steps": {"note": "every step is logged"},
  "gc_every_steps": {"note": "there is no garbage to collect"}
},
"clip_grad_norm": {},
"freeze_config": {"freeze_embeddings": {"only": false}},
"packed_sequence": {
  "packing_strategy": {"values": {"\"thd\"": "sequential", "\"neat\"": "best_fit"}},
  "split_across_pack": {"only": false},
  "drop_long_samples": {"only": true},
  "prepacked": {"only": false},
  "num_proc": {"note": "packing is part of the data loader's threads"}
},
"dataloader": {
  "": {"drop_last": true},
  "pin_memory": {"note": "says how batches are copied"},
  "persistent_workers": {"note": "threads stay for the whole run"},
  "pad_seq_len_divisible": "pad_seq_len_divisible"
},
"checkpoint": {
  "": {"max_recent_checkpoints": 1000000},
  "checkpoint_dir": "/output_dir",
  "model_save_format": {"only": "safetensors"},
  "save_consolidated": {"note": "the model is exported at the end of the run"},
  "is_async": "is_async",
  "wait_for_staging": {"note": "the step that changes the weights waits for their snapshot"},
  "single_rank_consolidation": {"note": "the model is exported at the end of the run"},
  "allow_legacy_pickle_restore": {"only": false},
  "v4_compatible": {"only": false},
  "best_metric_key": {"only": "default"},
  "restore_from": {"only": "LATEST"}
}
})json";

}  // namespace

const Value& reference_sections() {
  static const Value kTable = parse_json(kSections, {.file = "reference_sections.cpp"});
  return kTable;
}

}  // namespace espalier::config

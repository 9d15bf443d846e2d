// Data parallelism: every rank holds the whole model and computes its share of each step's rows;
// gradients are added up while the backward pass still runs.
//
// Memory of a rank: the whole model, its optimizer state, and one more copy of all gradients.
// Communication of a step: one all-reduce of all gradients, 2 (n - 1) / n of their bytes sent by
// each of n ranks, however many micro-batches the step has.
#include <optional>
#include <unordered_map>

#include "espalier/base/json.h"
#include "espalier/parallel/activation_checkpointing.h"
#include "espalier/parallel/gradient_buckets.h"
#include "espalier/sdk/parallel_strategy.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct DdpConfig {
  double bucket_cap_mb = 25;
  bool activation_checkpointing = false;
  parallel::CheckpointingConfig checkpointing;

  static ConfigSchema<DdpConfig> schema() {
    return ConfigSchema<DdpConfig>()
        .field("bucket_cap_mb", &DdpConfig::bucket_cap_mb,
               "gradients are reduced in pieces of about so many megabytes")
        .more_than(0)
        .field("activation_checkpointing", &DdpConfig::activation_checkpointing,
               "keep a block's inputs alone and compute it again in the backward pass")
        .field("checkpointing", &DdpConfig::checkpointing,
               "which blocks activation_checkpointing is about; default: all");
  }
};

class Ddp final : public ParallelStrategy {
 public:
  using Config = DdpConfig;

  explicit Ddp(DdpConfig config) : config_(std::move(config)) {}

  void check(Model&, ProblemList& problems) override {
    parallel::check_checkpointing(config_.activation_checkpointing, config_.checkpointing,
                                  problems);
  }

  DataShare data_share() const override { return {world().rank(), world().size()}; }

  void apply(Model& model) override {
    if (config_.activation_checkpointing)
      model.set_block_runner(parallel::checkpointing_runner(model, config_.checkpointing));
    if (world().size() == 1) return;
    const ModelParts& parts = model.parts();
    std::vector<at::Tensor> values;
    std::vector<std::shared_ptr<Parameter>> trained;
    for (const auto* list : {&parts.parameters, &parts.added_parameters}) {
      for (const auto& parameter : *list) {
        values.push_back(parameter->value());
        if (parameter->trainable()) trained.push_back(parameter);
        writers_.emplace(parameter.get(), static_cast<int>(writers_.size()) % world().size());
      }
    }
    parallel::broadcast_values(values, *world().all());
    constexpr double kMegabyte = 1 << 20;
    buckets_.emplace(trained, world().all(),
                     static_cast<std::int64_t>(config_.bucket_cap_mb * kMegabyte));
  }

  void begin_micro_batch(bool last) override {
    if (buckets_) buckets_->begin_micro_batch(last);
  }

  void finish_gradients(Model&) override {
    if (buckets_) buckets_->finish();
  }

  void sum_over_data(const at::Tensor& numbers) override {
    world().all()->all_reduce(numbers, "sums over the data")->wait();
  }

  ParameterLayout layout(const Parameter& parameter) const override {
    const auto writer = writers_.find(&parameter);
    return whole_layout(parameter,
                        world().rank() == (writer == writers_.end() ? 0 : writer->second));
  }

  at::Tensor full_value(const Parameter& parameter) override { return parameter.value(); }

 private:
  DdpConfig config_;
  std::optional<parallel::GradientBuckets> buckets_;
  /// The rank that writes a parameter to checkpoints: in turns, so that all write.
  std::unordered_map<const Parameter*, int> writers_;
};

void register_components(Registrar& registrar) {
  const Table keys =
      parse_json(
          R"({"dp_size": {"note": "it follows from the number of ranks"}, "tp_size": {"only": 1},
                 "cp_size": {"only": 1}, "pp_size": {"only": 1}, "ep_size": {"only": 1},
                 "dp_replicate_size": {"only": 1}, "sequence_parallel": {"only": false}, "activation_checkpointing": {"values": {"true": true, "false": false,
                     "\"full\"": true, "\"on\"": true, "\"off\"": false}},
                 "find_unused_parameters": {"only": false}, "broadcast_buffers": {"only": false},
                 "static_graph": {"note": "says how gradients are found"},
                 "gradient_as_bucket_view": {"note": "gradients are views already"}})")
          .as_table();
  registrar
      .add<ParallelStrategy, Ddp>("ddp", "every rank holds the whole model; gradients are added up")
      .property("default_for", "distributed")
      .alias("nemo_automodel.components.distributed.ddp.DDPManager", keys)
      .alias("ddp", keys);
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.ddp", "0.1.0", espalier::register_components)

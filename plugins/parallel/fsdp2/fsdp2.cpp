// Fully sharded data parallelism, per parameter: every rank keeps a run of rows of each parameter,
// of its gradient and of its optimizer state. A block's parameters are gathered before its forward
// pass and freed after it, gathered again before its backward pass, and their gradients are reduced
// to the ranks that own the rows.
//
// Memory of a rank, with n ranks a copy of the model: (parameters + gradients + optimizer state) /
// n, the root group (embedding, final norm, head) whole, and the blocks in flight: one, or as many
// as are gathered ahead. With micro-batches whose reduction is deferred, whole gradients too.
// With tp_size the matrices of every layer are shared first (tensor_parallelism.h), and what a rank
// then has is sharded over the ranks that have the same.
// Communication of a micro-batch: two all-gathers of all parameters, one where blocks stay
// gathered; of a step: one reduce-scatter of all gradients, and with r copies of the model an
// all-reduce of gradients / n.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/linear.h"
#include "espalier/parallel/activation_checkpointing.h"
#include "espalier/parallel/device_mesh.h"
#include "espalier/parallel/gradient_buckets.h"
#include "espalier/sdk/parallel_strategy.h"
#include "espalier/sdk/plugin.h"
#include "sharding_runner.h"
#include "tensor_parallelism.h"

namespace espalier {
namespace {

struct MixedPrecisionConfig {
  std::string param_dtype = "auto";
  std::string reduce_dtype = "float32";

  static ConfigSchema<MixedPrecisionConfig> schema() {
    return ConfigSchema<MixedPrecisionConfig>()
        .field("param_dtype", &MixedPrecisionConfig::param_dtype,
               "dtype in which parameters are gathered; auto: as they are stored")
        .one_of({"auto", "float32", "bfloat16", "float16"})
        .field("reduce_dtype", &MixedPrecisionConfig::reduce_dtype,
               "dtype in which gradients are added up")
        .one_of({"float32", "bfloat16", "float16"});
  }
};

struct Fsdp2Config : parallel::MeshConfig {
  bool sequence_parallel = false;
  SharingPatterns tp_plan;
  MixedPrecisionConfig mp_policy;
  std::optional<bool> reshard_after_forward;
  bool defer_fsdp_grad_sync = true;
  bool activation_checkpointing = false;
  parallel::CheckpointingConfig checkpointing;
  bool cpu_offload = false;
  bool enable_fsdp2_prefetch = false;
  std::int64_t fsdp2_forward_prefetch_depth = 1;
  std::int64_t fsdp2_backward_prefetch_depth = 2;

  static ConfigSchema<Fsdp2Config> schema() {
    return parallel::MeshConfig::schema_of<Fsdp2Config>()
        .field("sequence_parallel", &Fsdp2Config::sequence_parallel,
               "with tp_size: ranks also share the tokens between layers")
        .field("tp_plan", &Fsdp2Config::tp_plan,
               "with tp_size: how single modules are shared instead, by names with '*' and '?': "
               "colwise, rowwise, colwise_rep, rowwise_rep, replicated")
        .field("mp_policy", &Fsdp2Config::mp_policy, "dtypes of what travels")
        .field("reshard_after_forward", &Fsdp2Config::reshard_after_forward,
               "whether a block's parameters are freed between its forward and backward pass; "
               "default: all but the last block's")
        .field("defer_fsdp_grad_sync", &Fsdp2Config::defer_fsdp_grad_sync,
               "reduce gradients once a step; false: after every micro-batch, which needs less "
               "memory and more communication")
        .field("activation_checkpointing", &Fsdp2Config::activation_checkpointing,
               "keep a block's inputs alone and compute it again in the backward pass")
        .field("checkpointing", &Fsdp2Config::checkpointing,
               "which blocks activation_checkpointing is about; default: all")
        .field("cpu_offload", &Fsdp2Config::cpu_offload,
               "keep shards, their gradients and optimizer state in the host's memory: for GPUs, a "
               "single one too")
        .field("enable_fsdp2_prefetch", &Fsdp2Config::enable_fsdp2_prefetch,
               "gather blocks ahead of their turn")
        .field("fsdp2_forward_prefetch_depth", &Fsdp2Config::fsdp2_forward_prefetch_depth,
               "how many, in the forward pass")
        .at_least(0)
        .field("fsdp2_backward_prefetch_depth", &Fsdp2Config::fsdp2_backward_prefetch_depth,
               "how many, in the backward pass")
        .at_least(0);
  }
};

/// Where rows [rows.begin, +count) of a cut parameter lie in the whole.
std::vector<ShardPiece> pieces_of(const Parameter& parameter, const TensorCut* cut, IndexRun rows) {
  const std::vector<std::int64_t> local = parameter.value().sizes().vec();
  ShardPiece piece{std::vector<std::int64_t>(local.size(), 0), local,
                   std::vector<std::int64_t>(local.size(), 0)};
  if (rows.count == 0) return {};
  if (cut == nullptr || cut->dimension != 0) {
    piece.offset[0] = rows.begin;
    piece.extent[0] = rows.count;
    if (cut == nullptr) return {piece};
  }
  std::vector<ShardPiece> pieces;
  std::int64_t begin = 0;  // of the run in the cut dimension of what a shard group holds
  for (const IndexRun& run : cut->runs()) {
    std::int64_t first = 0;
    std::int64_t last = run.count;
    if (cut->dimension == 0) {
      first = std::max<std::int64_t>(0, rows.begin - begin);
      last = std::min(run.count, rows.begin + rows.count - begin);
    }
    if (first < last) {
      const std::int64_t skipped = cut->dimension == 0 ? rows.begin : 0;
      ShardPiece& own = pieces.emplace_back(piece);
      own.offset[cut->dimension] = run.begin + first;
      own.extent[cut->dimension] = last - first;
      own.local_offset[cut->dimension] = begin + first - skipped;
    }
    begin += run.count;
  }
  return pieces;
}

/// A block whose matrices ranks share.
class SharedBlock final : public Block {
 public:
  SharedBlock(Block& inner, TensorParallelism& ranks) : inner_(inner), ranks_(ranks) {}
  const std::string& name() const override { return inner_.name(); }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const override {
    return inner_.parameters();
  }
  BlockState forward(BlockState state, const BatchContext& context) override {
    return ranks_.run_block(inner_, std::move(state), context);
  }

 private:
  Block& inner_;
  TensorParallelism& ranks_;
};

/// Runs the blocks of the towers in a way of their own.
class TowerRunner final : public BlockRunner {
 public:
  TowerRunner(Model& model, ShardingRunner::RunBlock run_block) : run_block_(std::move(run_block)) {
    for (const Tower& tower : model.towers())
      blocks_.insert(tower.blocks.begin(), tower.blocks.end());
  }
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    return blocks_.contains(&block) ? run_block_(block, std::move(state), context)
                                    : block.forward(std::move(state), context);
  }

 private:
  ShardingRunner::RunBlock run_block_;
  std::unordered_set<const Block*> blocks_;
};

class Fsdp2 final : public ParallelStrategy {
 public:
  using Config = Fsdp2Config;

  explicit Fsdp2(Fsdp2Config config) : config_(std::move(config)) {}

  void set_up(World& world) override;
  void check(Model& model, ProblemList& problems) override;
  DataShare data_share() const override {
    return {mesh_->coordinate(world().rank(), "dp"), mesh_->size("dp")};
  }
  void apply(Model& model) override;
  bool applies_without_values() const override { return true; }
  at::Device leaf_device(const Parameter& parameter, at::Device device) const override {
    return config_.cpu_offload && rows_.contains(&parameter) ? at::Device(at::kCPU) : device;
  }
  void begin_micro_batch(bool last) override;
  void finish_gradients(Model& model) override;
  double gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) override;
  void sum_over_data(const at::Tensor& numbers) override {
    data_->all_reduce(numbers, "sums over the data")->wait();
  }
  void parameters_changed() override {
    if (runner_ != nullptr) runner_->free_all();
  }
  ParameterLayout layout(const Parameter& parameter) const override;
  at::Tensor full_value(const Parameter& parameter) override {
    return whole(parameter, parameter.value().detach());
  }
  at::Tensor whole(const Parameter& parameter, const at::Tensor& local) override;

 private:
  std::shared_ptr<ShardingRunner> shard(Model& model, ShardingRunner::RunBlock run_block);
  std::unique_ptr<ShardedGroup> make_group(
      const std::string& name, const std::vector<std::shared_ptr<Parameter>>& parameters,
      at::Device device, bool reshard);

  Fsdp2Config config_;
  std::optional<parallel::DeviceMesh> mesh_;
  std::shared_ptr<Communicator> data_;
  std::shared_ptr<const ShardingSetup> setup_;
  std::shared_ptr<ShardingRunner> runner_;
  std::optional<TensorParallelism> tensor_parallelism_;
  std::optional<parallel::CheckpointedBlocks> checkpointed_;
  std::unordered_map<const Block*, std::unique_ptr<Block>> shared_blocks_;
  /// Sharded parameters: rows that the ranks of a shard group hold together.
  std::unordered_map<const Parameter*, std::int64_t> rows_;
  std::optional<parallel::GradientBuckets> buckets_;  ///< of what adapters added
};

void Fsdp2::set_up(World& world) {
  ParallelStrategy::set_up(world);
  mesh_.emplace(config_, world.size());
  ProblemList problems;
  for (const auto& [key, size] :
       {std::pair("cp_size", config_.cp_size), std::pair("pp_size", config_.pp_size)}) {
    if (size > 1)
      problems.add({ErrorCode::kUnsupported, "this strategy can't divide the model so",
                    std::to_string(size), "1", std::string("distributed.") + key,
                    "leave it out: all ranks then share the data and the parameters"});
  }
  if (config_.sequence_parallel && config_.tp_size == 1)
    problems.add({ErrorCode::kBadInput,
                  "there is nobody to share the tokens with",
                  "sequence_parallel = true, tp_size = 1",
                  {},
                  "distributed.sequence_parallel",
                  "set tp_size, or leave sequence_parallel out"});
  if (!config_.tp_plan.empty() && config_.tp_size == 1)
    problems.add({ErrorCode::kBadInput,
                  "there is nobody to share modules with",
                  "tp_plan, tp_size = 1",
                  {},
                  "distributed.tp_plan",
                  "set tp_size, or leave tp_plan out"});
  problems.throw_if_any();
  data_ = mesh_->connect(world, "dp");
  ShardingSetup setup;
  setup.shard = mesh_->connect(world, "dp_shard");
  setup.replicate = mesh_->connect(world, "dp_replicate");
  if (config_.mp_policy.param_dtype != "auto")
    setup.param_dtype = scalar_type_from_name(config_.mp_policy.param_dtype);
  setup.cpu_offload = config_.cpu_offload;
  setup.reduce_dtype = scalar_type_from_name(config_.mp_policy.reduce_dtype);
  setup_ = std::make_shared<const ShardingSetup>(std::move(setup));
  if (config_.tp_size > 1)
    tensor_parallelism_.emplace(mesh_->connect(world, "tp"), config_.sequence_parallel,
                                config_.tp_plan);
}

void Fsdp2::check(Model& model, ProblemList& problems) {
  if (tensor_parallelism_) tensor_parallelism_->check(model, problems);
  parallel::check_checkpointing(config_.activation_checkpointing, config_.checkpointing, problems);
  if (config_.tp_size > 1 && config_.checkpointing.part != "block")
    problems.add({ErrorCode::kUnsupported, "ranks share the tokens of whole blocks",
                  "tp_size = " + std::to_string(config_.tp_size) + ", checkpointing.part = \"" +
                      config_.checkpointing.part + "\"",
                  "checkpointing.part = \"block\"", "distributed.checkpointing.part",
                  "leave the key out, or tp_size"});
}

std::unique_ptr<ShardedGroup> Fsdp2::make_group(
    const std::string& name, const std::vector<std::shared_ptr<Parameter>>& parameters,
    at::Device device, bool reshard) {
  for (const auto& parameter : parameters)
    rows_.emplace(parameter.get(), parameter->value().size(0));
  return std::make_unique<ShardedGroup>(name, parameters, setup_, device, reshard);
}

void Fsdp2::apply(Model& model) {
  if (world().size() == 1 && !config_.cpu_offload) {
    if (config_.activation_checkpointing)
      model.set_block_runner(parallel::checkpointing_runner(model, config_.checkpointing));
    return;
  }
  const ModelParts& parts = model.parts();
  // While all ranks hold the same of it.
  std::vector<at::Tensor> added;
  for (const auto& parameter : parts.added_parameters) added.push_back(parameter->value());
  parallel::broadcast_values(added, *world().all());
  if (tensor_parallelism_) tensor_parallelism_->apply(model);
  if (config_.activation_checkpointing) checkpointed_.emplace(model, config_.checkpointing);
  const auto run_block = [this](Block& block, BlockState state, const BatchContext& context) {
    Block* shared = tensor_parallelism_ ? shared_blocks_.at(&block).get() : nullptr;
    if (checkpointed_) return checkpointed_->run(block, std::move(state), context, shared);
    return (shared == nullptr ? block : *shared).forward(std::move(state), context);
  };
  if (tensor_parallelism_) {
    for (const Tower& tower : model.towers()) {
      for (Block* block : tower.blocks)
        shared_blocks_.emplace(block, std::make_unique<SharedBlock>(*block, *tensor_parallelism_));
    }
  }
  std::shared_ptr<BlockRunner> runner;
  if (mesh_->size("dp") > 1 || config_.cpu_offload)
    runner = runner_ = shard(model, run_block);
  else
    runner = std::make_shared<TowerRunner>(model, run_block);
  model.set_block_runner(tensor_parallelism_ ? tensor_parallelism_->around(model, runner) : runner);

  std::vector<std::shared_ptr<Parameter>> trained;
  for (const auto& parameter : parts.added_parameters)
    if (parameter->trainable()) trained.push_back(parameter);
  constexpr std::int64_t kBucketBytes = 25 << 20;
  if (!trained.empty()) buckets_.emplace(trained, data_, kBucketBytes);
}

/// Cuts all parameters into rows: a group for every block, and the root group.
std::shared_ptr<ShardingRunner> Fsdp2::shard(Model& model, ShardingRunner::RunBlock run_block) {
  std::unordered_map<const Parameter*, int> uses;  // in how many blocks
  std::vector<Block*> blocks;
  for (const Tower& tower : model.towers())
    blocks.insert(blocks.end(), tower.blocks.begin(), tower.blocks.end());
  for (const Block* block : blocks) {
    for (const auto& parameter : block->parameters()) ++uses[parameter.get()];
  }
  std::vector<std::pair<const Block*, std::unique_ptr<ShardedGroup>>> groups;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    std::vector<std::shared_ptr<Parameter>> own;
    for (const auto& parameter : blocks[i]->parameters())
      if (uses[parameter.get()] == 1) own.push_back(parameter);
    groups.emplace_back(blocks[i],
                        make_group(blocks[i]->name(), own, model.device(),
                                   config_.reshard_after_forward.value_or(i + 1 < blocks.size())));
  }
  // What no block has for itself: embedding, final norm, head, and what several blocks use.
  std::vector<std::shared_ptr<Parameter>> rest;
  for (const auto& parameter : model.parts().parameters)
    if (!rows_.contains(parameter.get())) rest.push_back(parameter);
  std::unique_ptr<ShardedGroup> root;
  if (!rest.empty()) root = make_group("root parameters", rest, model.device(), false);

  PrefetchDepth prefetch;
  if (config_.enable_fsdp2_prefetch) {
    prefetch.forward = static_cast<std::size_t>(config_.fsdp2_forward_prefetch_depth);
    prefetch.backward = static_cast<std::size_t>(config_.fsdp2_backward_prefetch_depth);
  }
  return std::make_shared<ShardingRunner>(std::move(root), std::move(groups), prefetch,
                                          std::move(run_block));
}

void Fsdp2::begin_micro_batch(bool last) {
  if (runner_ != nullptr) runner_->set_reduce(last || !config_.defer_fsdp_grad_sync);
  if (buckets_) buckets_->begin_micro_batch(last);
}

void Fsdp2::finish_gradients(Model&) {
  if (runner_ != nullptr) runner_->finish_step();
  if (buckets_) buckets_->finish();
  if (tensor_parallelism_) tensor_parallelism_->finish_gradients();
}

double Fsdp2::gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  if (world().size() == 1) return local_gradient_norm(parameters);
  std::vector<std::shared_ptr<Parameter>> counted;  // what several ranks hold, by one of them
  for (const auto& parameter : parameters) {
    const bool owned = !tensor_parallelism_ || tensor_parallelism_->owns(*parameter);
    const bool sharded = rows_.contains(parameter.get());
    if (owned && (sharded || setup_->shard->rank() == 0)) counted.push_back(parameter);
  }
  const double own = local_gradient_norm(counted);
  const at::Tensor square = at::empty({1}, at::TensorOptions().dtype(at::kDouble));
  square.fill_(own * own);
  setup_->shard->all_reduce(square, "gradient norm")->wait();
  if (tensor_parallelism_) tensor_parallelism_->ranks().all_reduce(square, "gradient norm")->wait();
  return std::sqrt(square.item<double>());
}

ParameterLayout Fsdp2::layout(const Parameter& parameter) const {
  const auto found = rows_.find(&parameter);
  const bool sharded = found != rows_.end();
  if (!sharded && !tensor_parallelism_) return whole_layout(parameter, world().rank() == 0);
  const TensorCut* cut = tensor_parallelism_ ? tensor_parallelism_->cut(parameter) : nullptr;
  const bool writes = setup_->replicate->rank() == 0 && (sharded || setup_->shard->rank() == 0) &&
                      (!tensor_parallelism_ || tensor_parallelism_->owns(parameter));
  // Rows are of what the ranks of a shard group hold together.
  IndexRun rows{0, parameter.value().size(0)};
  if (sharded) {
    const auto [begin, end] =
        ShardedGroup::rows_of(found->second, setup_->shard->rank(), setup_->shard->size());
    rows = {begin, end - begin};
  }
  return {pieces_of(parameter, cut, rows), writes};
}

at::Tensor Fsdp2::whole(const Parameter& parameter, const at::Tensor& local) {
  at::Tensor value = local;
  if (const auto found = rows_.find(&parameter); found != rows_.end())
    value = gather_rows(value, found->second, *setup_->shard);
  return tensor_parallelism_ ? tensor_parallelism_->assemble(parameter, value) : value;
}

void register_components(Registrar& registrar) {
  const Table keys =
      parse_json(
          R"({"ep_size": {"only": 1}, "activation_checkpointing": {"values": {"true": true, "false": false,
                     "\"full\"": true, "\"on\"": true, "\"off\"": false}},
                 "enable_compile": {"only": false},
                 "enable_async_tensor_parallel": {"only": false},
                 "mp_policy": {"targets": ["torch.distributed.fsdp.MixedPrecisionPolicy"],
                     "keys": {"output_dtype": {"note": "activations keep the dtype of compute"},
                              "cast_forward_inputs": {"only": true}}}})")
          .as_table();
  registrar
      .add<ParallelStrategy, Fsdp2>(
          "fsdp2", "every rank holds a part of each parameter; blocks are gathered for their turn")
      .alias("nemo_automodel.components.distributed.fsdp2.FSDP2Manager", keys)
      .alias("fsdp2", keys)
      .alias("default", keys);
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.fsdp2", "0.1.0", espalier::register_components)

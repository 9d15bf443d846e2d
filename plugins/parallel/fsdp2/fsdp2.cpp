// Fully sharded data parallelism, per parameter: every rank keeps a run of rows of each parameter,
// of its gradient and of its optimizer state. A block's parameters are gathered before its forward
// pass and freed after it, gathered again before its backward pass, and their gradients are reduced
// to the ranks that own the rows.
//
// Memory of a rank, with n ranks a copy of the model: (parameters + gradients + optimizer state) /
// n, the root group (embedding, final norm, head) whole, and the blocks in flight: one, or as many
// as are gathered ahead. With micro-batches whose reduction is deferred, whole gradients too.
// Communication of a micro-batch: two all-gathers of all parameters, one where blocks stay
// gathered; of a step: one reduce-scatter of all gradients, and with r copies of the model an
// all-reduce of gradients / n.
#include <ATen/ops/empty.h>

#include <cmath>
#include <optional>
#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/io/tensor_io.h"
#include "espalier/parallel/activation_checkpointing.h"
#include "espalier/parallel/device_mesh.h"
#include "espalier/parallel/gradient_buckets.h"
#include "espalier/sdk/parallel_strategy.h"
#include "espalier/sdk/plugin.h"
#include "sharding_runner.h"

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
  MixedPrecisionConfig mp_policy;
  std::optional<bool> reshard_after_forward;
  bool defer_fsdp_grad_sync = true;
  bool activation_checkpointing = false;
  bool enable_fsdp2_prefetch = false;
  std::int64_t fsdp2_forward_prefetch_depth = 1;
  std::int64_t fsdp2_backward_prefetch_depth = 2;

  static ConfigSchema<Fsdp2Config> schema() {
    return parallel::MeshConfig::schema_of<Fsdp2Config>()
        .field("mp_policy", &Fsdp2Config::mp_policy, "dtypes of what travels")
        .field("reshard_after_forward", &Fsdp2Config::reshard_after_forward,
               "whether a block's parameters are freed between its forward and backward pass; "
               "default: all but the last block's")
        .field("defer_fsdp_grad_sync", &Fsdp2Config::defer_fsdp_grad_sync,
               "reduce gradients once a step; false: after every micro-batch, which needs less "
               "memory and more communication")
        .field("activation_checkpointing", &Fsdp2Config::activation_checkpointing,
               "keep a block's inputs alone and compute it again in the backward pass")
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

class Fsdp2 final : public ParallelStrategy {
 public:
  using Config = Fsdp2Config;

  explicit Fsdp2(Fsdp2Config config) : config_(std::move(config)) {}

  void set_up(World& world) override;
  DataShare data_share() const override {
    return {mesh_->coordinate(world().rank(), "dp"), mesh_->size("dp")};
  }
  void apply(Model& model) override;
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
  at::Tensor full_value(const Parameter& parameter) override;

 private:
  std::unique_ptr<ShardedGroup> make_group(
      const std::string& name, const std::vector<std::shared_ptr<Parameter>>& parameters,
      bool reshard);

  Fsdp2Config config_;
  std::optional<parallel::DeviceMesh> mesh_;
  std::shared_ptr<Communicator> data_;
  std::shared_ptr<const ShardingSetup> setup_;
  std::shared_ptr<ShardingRunner> runner_;
  std::unordered_map<const Parameter*, std::int64_t> rows_;  ///< of the whole; sharded ones
  std::optional<parallel::GradientBuckets> buckets_;  ///< of what adapters added
};

void Fsdp2::set_up(World& world) {
  ParallelStrategy::set_up(world);
  mesh_.emplace(config_, world.size());
  ProblemList problems;
  for (const auto& [key, size] : {std::pair("cp_size", config_.cp_size),
                                  std::pair("pp_size", config_.pp_size),
                                  std::pair("tp_size", config_.tp_size)}) {
    if (size > 1)
      problems.add({ErrorCode::kUnsupported, "this strategy can't divide the model so",
                    std::to_string(size), "1", std::string("distributed.") + key,
                    "leave it out: all ranks then share the data and the parameters"});
  }
  problems.throw_if_any();
  data_ = mesh_->connect(world, "dp");
  ShardingSetup setup;
  setup.shard = mesh_->connect(world, "dp_shard");
  setup.replicate = mesh_->connect(world, "dp_replicate");
  if (config_.mp_policy.param_dtype != "auto")
    setup.param_dtype = scalar_type_from_name(config_.mp_policy.param_dtype);
  setup.reduce_dtype = scalar_type_from_name(config_.mp_policy.reduce_dtype);
  setup_ = std::make_shared<const ShardingSetup>(std::move(setup));
}

std::unique_ptr<ShardedGroup> Fsdp2::make_group(
    const std::string& name, const std::vector<std::shared_ptr<Parameter>>& parameters,
    bool reshard) {
  for (const auto& parameter : parameters)
    rows_.emplace(parameter.get(), parameter->value().size(0));
  return std::make_unique<ShardedGroup>(name, parameters, setup_, reshard);
}

void Fsdp2::apply(Model& model) {
  if (world().size() == 1) {
    if (config_.activation_checkpointing)
      model.set_block_runner(parallel::checkpointing_runner(model));
    return;
  }
  const ModelParts& parts = model.parts();
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
                        make_group(blocks[i]->name(), own,
                                   config_.reshard_after_forward.value_or(i + 1 < blocks.size())));
  }
  // What no block has for itself: embedding, final norm, head, and what several blocks use.
  std::vector<std::shared_ptr<Parameter>> rest;
  for (const auto& parameter : parts.parameters)
    if (!rows_.contains(parameter.get())) rest.push_back(parameter);
  std::unique_ptr<ShardedGroup> root;
  if (!rest.empty()) root = make_group("root parameters", rest, false);

  PrefetchDepth prefetch;
  if (config_.enable_fsdp2_prefetch) {
    prefetch.forward = static_cast<std::size_t>(config_.fsdp2_forward_prefetch_depth);
    prefetch.backward = static_cast<std::size_t>(config_.fsdp2_backward_prefetch_depth);
  }
  const auto run_block = [recomputes = config_.activation_checkpointing,
                          added = parts.added_parameters](Block& block, BlockState state,
                                                          const BatchContext& context) {
    return recomputes ? parallel::run_checkpointed(block, std::move(state), context, added)
                      : block.forward(std::move(state), context);
  };
  runner_ = std::make_shared<ShardingRunner>(std::move(root), std::move(groups), prefetch,
                                             run_block);
  model.set_block_runner(runner_);

  std::vector<at::Tensor> added;
  std::vector<std::shared_ptr<Parameter>> trained;
  for (const auto& parameter : parts.added_parameters) {
    added.push_back(parameter->value());
    if (parameter->trainable()) trained.push_back(parameter);
  }
  parallel::broadcast_values(added, *world().all());
  constexpr std::int64_t kBucketBytes = 25 << 20;
  if (!trained.empty()) buckets_.emplace(trained, data_, kBucketBytes);
}

void Fsdp2::begin_micro_batch(bool last) {
  if (runner_ != nullptr) runner_->set_reduce(last || !config_.defer_fsdp_grad_sync);
  if (buckets_) buckets_->begin_micro_batch(last);
}

void Fsdp2::finish_gradients(Model&) {
  if (runner_ != nullptr) runner_->finish_step();
  if (buckets_) buckets_->finish();
}

double Fsdp2::gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  if (runner_ == nullptr) return local_gradient_norm(parameters);
  std::vector<std::shared_ptr<Parameter>> counted;  // what every rank holds whole, by one of them
  for (const auto& parameter : parameters)
    if (rows_.contains(parameter.get()) || setup_->shard->rank() == 0) counted.push_back(parameter);
  const double own = local_gradient_norm(counted);
  const at::Tensor square = at::empty({1}, at::TensorOptions().dtype(at::kDouble));
  square.fill_(own * own);
  setup_->shard->all_reduce(square, "gradient norm")->wait();
  return std::sqrt(square.item<double>());
}

ParameterLayout Fsdp2::layout(const Parameter& parameter) const {
  const auto found = rows_.find(&parameter);
  if (found == rows_.end()) return whole_layout(parameter, world().rank() == 0);
  const auto [begin, end] =
      ShardedGroup::rows_of(found->second, setup_->shard->rank(), setup_->shard->size());
  ParameterLayout layout = whole_layout(parameter, setup_->replicate->rank() == 0);
  layout.pieces.front().offset[0] = begin;
  if (begin == end) layout.pieces.clear();
  return layout;
}

at::Tensor Fsdp2::full_value(const Parameter& parameter) {
  const auto found = rows_.find(&parameter);
  if (found == rows_.end()) return parameter.value();
  return gather_rows(parameter.value().detach(), found->second, *setup_->shard);
}

void register_components(Registrar& registrar) {
  registrar
      .add<ParallelStrategy, Fsdp2>(
          "fsdp2", "every rank holds a part of each parameter; blocks are gathered for their turn")
      .alias("nemo_automodel.components.distributed.fsdp2.FSDP2Manager");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.fsdp2", "0.1.0", espalier::register_components)

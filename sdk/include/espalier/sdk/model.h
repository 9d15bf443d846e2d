#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/base/value.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/parameter.h"
#include "espalier/sdk/share.h"

namespace espalier {

namespace nn {
class AttentionCore;
class Embedding;
class ExpertDispatcher;
class ExpertLinear;
class Linear;
}  // namespace nn

/// Named tensors that travel with the hidden states (router logits of each layer).
using CarriedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// What travels from block to block. `hidden` is [rows, embed], a row for each token unless the
/// batch shares them (BatchContext::shared); a family that carries more adds named tensors.
struct BlockState {
  at::Tensor hidden;
  CarriedTensors carried;
};

/// cos and sin of a rotary embedding at the positions of a batch, each [rows, rotary_dim / 2]
/// float32.
struct RotaryTables {
  at::Tensor cos;
  at::Tensor sin;
};

/// Which tokens have a row of hidden states. What a causal model computes of a token depends on
/// what stands before it alone, so documents that begin alike can have the rows of their common
/// tokens once. Undefined tensors: every token has its own row, in order.
struct SharedRows {
  at::Tensor row_of_token;  ///< [tokens] int64
  at::Tensor token_of_row;  ///< [rows] int64: the first token of each row

  bool defined() const { return row_of_token.defined(); }
};

/// What all blocks of one forward pass share; built once, never changed while the pass runs.
struct BatchContext {
  TokenLayout layout;  ///< all tokens; attention, which looks across rows, goes by it
  SharedRows shared;
  std::int64_t rows = 0;             ///< of hidden states: layout.tokens(), or fewer if shared
  at::Tensor input_ids;              ///< [rows] int64
  at::Tensor position_ids;           ///< [rows] int64
  std::vector<RotaryTables> rotary;  ///< one for each rotary embedding that the family uses
  KvCache* cache = nullptr;
  at::ScalarType compute_dtype = at::kFloat;  ///< of activations
  bool training = false;
  std::int64_t prefix_keys = 0;  ///< DocumentPrefix::keys
};

/// One stretch of a model: the embedding, a decoder layer, the final norm. Belongs to the model.
/// One thread at a time; a backward pass that recomputes calls it on the thread of autograd.
class ESPALIER_API Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  virtual ~Block();

  virtual const std::string& name() const = 0;
  virtual BlockState forward(BlockState state, const BatchContext& context) = 0;
  /// Parameters used inside forward, each once.
  virtual const std::vector<std::shared_ptr<Parameter>>& parameters() const = 0;
  /// Attention and MLP, where `forward` is the one after the other, each from state to state; empty
  /// where it is not. Their names end in "attention" and "mlp".
  virtual std::vector<Block*> parts() { return {}; }
};

/// Runs every block of a model. Strategies gather and free parameters here, checkpointing
/// recomputes, a pipeline cuts, a profiler times. The default calls the block. Shared by the model
/// and whoever set it; called by the thread that runs the model.
class ESPALIER_API BlockRunner {
 public:
  BlockRunner() = default;
  BlockRunner(const BlockRunner&) = delete;
  BlockRunner& operator=(const BlockRunner&) = delete;
  virtual ~BlockRunner();

  virtual BlockState run(Block& block, BlockState state, const BatchContext& context);
  /// Makes the parameters of the head usable until the returned object is destroyed.
  virtual std::shared_ptr<void> head_scope(
      const std::vector<std::shared_ptr<Parameter>>& parameters);
};

/// The blocks of one named part of a model (a text model has one tower, "model"), which owns them.
struct Tower {
  std::string name;
  Block* prologue = nullptr;
  std::vector<Block*> blocks;
  Block* epilogue = nullptr;
};

/// Linears that share an input (q, k and v; gate and up), so that an extension can share work.
struct LinearGroup {
  std::string name;
  std::vector<nn::Linear*> linears;
};

/// The output projection as losses and samplers see it: it may be tied, sharded, quantised or
/// adapted. Belongs to the model. One thread at a time.
class ESPALIER_API Head {
 public:
  Head() = default;
  Head(const Head&) = delete;
  Head& operator=(const Head&) = delete;
  virtual ~Head();

  virtual std::int64_t vocab_size() const = 0;
  /// Hold while calling `project`: a strategy gathers the weight for that time.
  virtual std::shared_ptr<void> scope() = 0;
  /// Logits of some rows of the hidden states: [rows, embed] -> [rows, vocab], scaled and capped as
  /// the model does, in the compute dtype.
  virtual at::Tensor project(const at::Tensor& hidden_rows) = 0;
  virtual nn::Linear& linear() = 0;

  /// The run of the vocabulary that `project_share` gives logits of, where ranks share the head and
  /// `project` gathers; nullptr: all of it.
  virtual const AxisShare* share() const { return nullptr; }
  /// As `project`, of this rank's share: [rows, embed], the same on all ranks -> [rows, count].
  virtual at::Tensor project_share(const at::Tensor& hidden_rows) { return project(hidden_rows); }
};

/// A further term of the loss that the model itself adds in training (load balancing of experts).
/// With weight 0 it is a measurement that is reported and not trained.
struct AuxiliaryTerm {
  std::string name;
  at::Tensor value;  ///< scalar
  double weight = 0.0;
};

/// What a forward pass gives.
struct ModelOutput {
  at::Tensor hidden;  ///< [tokens, embed], after the final norm
  TokenLayout layout;
  std::vector<AuxiliaryTerm> auxiliary;
};

/// What adapters put before every document. Both count as places of the text: its own tokens come
/// after them.
struct DocumentPrefix {
  /// Places that keys and values of the attention cores fill (prefix tuning).
  std::int64_t keys = 0;
  /// Tokens that run through the model as well and are left out of its output (prompt tuning). An
  /// extension of the embedding gives them their vectors: see nn::kPromptToken.
  std::int64_t tokens = 0;
};

/// The parts of a model as data, so that strategies, adapters and quantizers act on any model
/// without an edit to it. Plain pointers are to parts that the model owns.
struct ModelParts {
  std::vector<std::shared_ptr<Parameter>>
      parameters;                     ///< each once, in checkpoint order; a tied weight once
  std::vector<DiskMapping> mappings;  ///< Hugging Face layout, one for each parameter
  std::vector<nn::Linear*> linears;
  std::vector<nn::ExpertLinear*> expert_linears;  ///< one for all experts of a layer
  std::vector<LinearGroup> linear_groups;
  std::vector<nn::Embedding*> embeddings;
  std::vector<std::pair<std::string, std::shared_ptr<nn::AttentionCore>*>>
      attention_cores;  ///< seats
  std::vector<std::pair<std::string, std::shared_ptr<nn::ExpertDispatcher>*>>
      expert_dispatchers;  ///< seats
  /// Tensors of the checkpoint that the model knowingly leaves aside (a stored copy of a tied head,
  /// rotary buffers).
  std::vector<std::string> ignored_on_disk;
  /// Parameters that adapters added: whole on every rank, trained there, no part of the checkpoint.
  std::vector<std::shared_ptr<Parameter>> added_parameters;
  DocumentPrefix prefix;
};

/// Facts for capability checks and the memory plan.
struct ModelShape {
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  bool recurrent = false;  ///< some layers carry a state along the text (Mamba)
  /// Why ranks can't share the heads and the inner dimension of its layers; empty: they can, by the
  /// axes of the parameters.
  std::string undivided;
};

/// A model built by a plugin; first on the meta device, then given values by the engine. One thread
/// at a time.
class ESPALIER_API Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model();

  /// Throws Error(kBadInput) for inputs whose shapes disagree.
  virtual ModelOutput forward(const ModelInput& input) = 0;
  /// Head, parts and towers live as long as the model.
  virtual Head& head() = 0;
  virtual ModelParts& parts() = 0;
  virtual std::vector<Tower> towers() = 0;
  virtual ModelShape shape() const = 0;
  virtual void set_block_runner(std::shared_ptr<BlockRunner> runner) = 0;
  /// Dtype of activations; float32 unless set. Weights are converted where they differ.
  virtual void set_compute_dtype(at::ScalarType dtype) = 0;
  /// Where it computes, and brings its inputs to; the CPU unless set. Leaves of parameters may lie
  /// elsewhere, where a strategy keeps them in the host's memory.
  at::Device device() const { return device_; }
  /// A model around another one passes it on.
  virtual void set_device(at::Device device) { device_ = device; }
  /// For ModelInput::cache; nullptr where the model can't continue a text (rotary scaling that
  /// depends on its length).
  virtual std::unique_ptr<KvCache> make_cache() = 0;
  virtual void set_training(bool training) = 0;
  /// Lets passes without a cache compute the common beginnings of documents once (SharedRows); what
  /// they return stays as it is, to rounding. Off unless set; a model that can't ignores it. A
  /// model around another one passes it on.
  virtual void set_share_prefixes(bool) {}
  /// Rows of hidden states that a pass over `input` without a cache computes: its tokens, or fewer
  /// where documents share rows.
  virtual std::int64_t rows(const ModelInput& input) const { return make_layout(input).tokens(); }

 private:
  at::Device device_ = at::kCPU;
};

/// Builds models of the architectures that its manifest entry serves. Any number of threads; a
/// model lives on without its provider.
class ESPALIER_API ModelProvider {
 public:
  static constexpr InterfaceId kInterface{"ModelProvider", 2};

  ModelProvider() = default;
  ModelProvider(const ModelProvider&) = delete;
  ModelProvider& operator=(const ModelProvider&) = delete;
  virtual ~ModelProvider();

  /// Empty when this provider can build the model, otherwise the reason why not. `config` is
  /// config.json.
  virtual std::string accepts(const Value& config) const = 0;
  /// On the meta device: no memory, no values. Throws Error(kBadInput) naming the key of
  /// config.json that is wrong.
  virtual std::unique_ptr<Model> build(const Value& config) const = 0;
};

}  // namespace espalier

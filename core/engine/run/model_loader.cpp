#include "engine/run/model_loader.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/sum.h>

#include <cmath>
#include <filesystem>

#include "engine/memory/caching_allocator.h"
#include "engine/parallel/shard_pieces.h"
#include "engine/run/attention_choice.h"
#include "engine/run/checkpoint_match.h"
#include "engine/run/device.h"
#include "engine/run/weight_source.h"
#include "espalier/base/error.h"
#include "espalier/base/suggest.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/linear.h"
#include "plugin/model_config.h"

namespace espalier {
namespace {

/// What a whole model is stored in: what was asked for, else what most of the checkpoint has, else
/// what the config says.
at::ScalarType storage_dtype(const std::string& requested, const CheckpointReader* checkpoint,
                             const ModelParts& parts, const Value& config) {
  if (requested != "auto") return scalar_type_from_name(requested);
  if (checkpoint != nullptr) return prevailing_dtype(parts, *checkpoint);
  for (const char* key : {"torch_dtype", "dtype"}) {
    const Value* value = config.find(key);
    if (value != nullptr && value->is_string()) {
      const std::string name = value->as_string();
      return scalar_type_from_name(name.starts_with("torch.") ? name.substr(6) : name);
    }
  }
  return at::kFloat;
}

/// Weights that are quantised need the method that made them.
void refuse_quantised(const Value& config, const std::string& where) {
  const Value* quantisation = config.find("quantization_config");
  if (quantisation == nullptr || quantisation->is_null()) return;
  const Value* method = quantisation->find("quant_method");
  const bool named = method != nullptr && method->is_string();
  throw Error(Problem{ErrorCode::kUnsupported, "the checkpoint is quantised",
                      named ? method->as_string() : "quantization_config",
                      "weights in float32, bfloat16 or float16", where + ": quantization_config",
                      "fetch the model in its unquantised form"});
}

void check_finite(const at::Tensor& value, const std::string& name, ProblemList& problems) {
  if (!at::isFloatingType(value.scalar_type())) return;
  // A sum that is finite has only finite terms, and costs one pass without memory of its own.
  if (std::isfinite(at::sum(value, at::kFloat).item<float>())) return;
  const std::int64_t bad = value.numel() - at::isfinite(value).sum().item<std::int64_t>();
  if (bad == 0) return;
  problems.add({ErrorCode::kBadInput,
                "tensor '" + name + "' holds NaN or infinite numbers",
                std::to_string(bad) + " of " + std::to_string(value.numel()),
                "finite numbers",
                {},
                "the training that wrote it diverged, or the file is damaged"});
}

double initializer_range(const Value& config) {
  const Value* value = config.find("initializer_range");
  return value != nullptr && value->is_number() ? value->as_float() : 0.02;
}

/// The decoder with the head of its task. A checkpoint whose head is not the embedding, though the
/// config ties them, is built untied, as transformers does.
void build(const ModelProvider& provider, const ModelLoadOptions& options,
           const CheckpointReader* checkpoint, LoadedModel& loaded) {
  loaded.model = provider.build(loaded.config);
  loaded.task = task_of(options.task, loaded.config);
  if (loaded.task == Task::kCausalLm) {
    if (checkpoint == nullptr) return;
    if (!has_head_of_its_own(*loaded.model, *checkpoint)) return;
    loaded.notes.push_back(
        "config.json ties the head to the embedding, but the checkpoint has another head: not "
        "tied");
    loaded.config.as_table().set("tie_word_embeddings", false);
    loaded.model = provider.build(loaded.config);
    return;
  }
  loaded.num_labels = label_count(loaded.config);
  std::string name = "score";
  if (checkpoint != nullptr && checkpoint->contains("classifier.weight")) {
    name = "classifier";
  } else if (loaded.task == Task::kTokenClassification &&
             (checkpoint == nullptr || !checkpoint->contains("score.weight"))) {
    name = options.token_head;
  }
  loaded.model = nn::with_task_head(std::move(loaded.model), loaded.task, name, loaded.num_labels,
                                    initializer_range(loaded.config));
  loaded.config = config_for_task(std::move(loaded.config), loaded.task, loaded.num_labels);
}

/// Lets the quantizer hold the parameter if it is the weight of a linear alone, other than the
/// output head, whose weight no adapter has put something else in front of.
bool quantise(LoadedModel& loaded, const Parameter& parameter, const at::Tensor& value) {
  if (loaded.quantizer == nullptr) return false;
  for (nn::Linear* linear : loaded.model->parts().linears) {
    if (linear->weight().get() != &parameter || linear == &loaded.model->head().linear() ||
        dynamic_cast<const nn::DenseWeight*>(&linear->storage()) == nullptr)
      continue;
    std::unique_ptr<nn::WeightStorage> storage = loaded.quantizer->hold(*linear, value);
    if (storage == nullptr) return false;
    linear->set_storage(std::move(storage));
    loaded.quantised.emplace(&parameter, linear);
    return true;
  }
  return false;
}

/// Whether nobody looks at the weights before a strategy has cut them.
bool may_come_later(const ModelLoadOptions& options,
                    const std::vector<std::shared_ptr<Adapter>>& adapters) {
  return options.without_values &&
         (options.quantizer == nullptr || options.quantizer->holds_without_values()) &&
         std::all_of(adapters.begin(), adapters.end(), [](const std::shared_ptr<Adapter>& each) {
           return each->initialises_without_weights();
         });
}

void set_values(bool later, const WeightSource& source, LoadedModel& loaded) {
  const ModelParts& parts = loaded.model->parts();
  ProblemList problems;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    Parameter& parameter = *parts.parameters[i];
    at::Tensor value;
    if (later) {
      value = at::empty(parameter.spec().shape(),
                        at::TensorOptions().dtype(source.dtype(i)).device(at::kMeta));
    } else {
      value = source.read(i);
      if (source.is_stored(i)) check_finite(value, parameter.name(), problems);
      value = value.to(loaded.device);
    }
    if (!quantise(loaded, parameter, value)) parameter.set_value(value);
  }
  problems.throw_if_any();
}

/// What a rank holds of `whole`. `pieces` are boxes of it, `shape` that of the part.
at::Tensor part_of(const at::Tensor& whole, const std::vector<ShardPiece>& pieces,
                   at::IntArrayRef shape) {
  at::Tensor part = at::empty(shape, whole.options());
  for (const ShardPiece& piece : pieces)
    box(part, piece.local_offset, piece.extent).copy_(box(whole, piece.offset, piece.extent));
  return part;
}

/// The part of a quantised weight. Scales may depend on what other ranks hold of it: the weight is
/// quantised whole, and then cut.
void read_quantised(const LoadedModel& loaded, const ParallelStrategy& strategy, std::size_t index,
                    ProblemList& problems) {
  nn::Linear& linear = *loaded.quantised.at(loaded.model->parts().parameters[index].get());
  const std::vector<std::shared_ptr<Parameter>> held = linear.storage().components();
  std::vector<std::vector<ShardPiece>> pieces;
  std::vector<std::vector<std::int64_t>> shapes;
  for (const auto& component : held) {
    pieces.push_back(strategy.layout(*component).pieces);
    shapes.push_back(component->value().sizes().vec());
  }
  const at::Tensor weight = loaded.source->read(index);
  if (loaded.source->is_stored(index)) check_finite(weight, linear.weight()->name(), problems);
  const auto storage = loaded.quantizer->hold(linear, weight.to(loaded.device));
  const std::vector<std::shared_ptr<Parameter>> whole = storage->components();
  for (std::size_t k = 0; k < held.size(); ++k)
    held[k]->set_value(part_of(whole[k]->value().detach(), pieces[k], shapes[k])
                           .to(strategy.leaf_device(*held[k], loaded.device)));
}

}  // namespace

Value read_model_config(const std::string& folder) { return plugin::read_model_config(folder); }

std::pair<at::ScalarType, std::string> choose_compute_dtype(const std::string& requested,
                                                            at::ScalarType storage,
                                                            at::Device device) {
  if (requested != "auto") return {scalar_type_from_name(requested), "asked for"};
  if (storage == at::kFloat || !device.is_cpu()) return {storage, "as stored"};
  if (storage == at::kBFloat16 && __builtin_cpu_supports("avx512bf16")) {
    return {at::kBFloat16, "as stored; this CPU multiplies bfloat16"};
  }
  return {at::kFloat, "this CPU has no fast " + scalar_type_name(storage) + " arithmetic"};
}

std::int64_t parameter_bytes(const Model& model) {
  std::int64_t bytes = 0;
  for (const auto& parameter : const_cast<Model&>(model).parts().parameters) {
    bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  }
  for (const nn::Linear* linear : const_cast<Model&>(model).parts().linears) {
    if (at::isFloatingType(linear->weight()->value().scalar_type())) continue;
    bytes +=
        linear->storage().bytes() - static_cast<std::int64_t>(linear->weight()->value().nbytes());
  }
  return bytes;
}

LoadedModel load_model(const ModelProvider& provider, const std::string& folder,
                       const ModelLoadOptions& options, std::shared_ptr<Adapter> adapter) {
  const MemoryPurposeScope parameters(MemoryPurpose::kParameters);
  LoadedModel loaded;
  loaded.device = choose_device(options.device);
  loaded.folder = std::filesystem::absolute(folder).lexically_normal().string();
  loaded.config = plugin::with_config_overrides(read_model_config(folder), options.config);
  if (const std::string reason = provider.accepts(loaded.config); !reason.empty()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "the plugin can't build this model: " + reason,
                        {},
                        {},
                        folder + "/config.json",
                        {}});
  }
  loaded.tokenizer_files = options.files.tokenizer_files;
  std::shared_ptr<const CheckpointReader> checkpoint;
  if (!options.random_weights) {
    refuse_quantised(loaded.config, folder + "/config.json");
    checkpoint = open_checkpoint(folder, options.files);
  }
  const CheckpointReader* weights = checkpoint.get();
  build(provider, options, weights, loaded);
  loaded.model->set_device(loaded.device);
  ModelParts& parts = loaded.model->parts();
  std::vector<std::shared_ptr<Adapter>> adapters = options.further_adapters;
  if (adapter != nullptr) adapters.insert(adapters.begin(), adapter);
  for (const auto& each : adapters) each->attach(*loaded.model);
  loaded.quantizer = options.quantizer;
  const bool later = may_come_later(options, adapters);

  if (weights != nullptr) {
    match_names(parts, *weights);
    std::vector<std::string> fresh;
    if (loaded.task != Task::kCausalLm && loaded.task != Task::kEmbedding)
      fresh.push_back(loaded.model->head().linear().name());
    const std::vector<std::string> missing = check_checkpoint(parts, *weights, fresh);
    if (!missing.empty()) loaded.notes.push_back("new, with random values: " + join_names(missing));
  }
  loaded.storage_dtype = storage_dtype(options.dtype, weights, parts, loaded.config);
  std::tie(loaded.compute_dtype, loaded.compute_reason) =
      choose_compute_dtype(options.compute_dtype, loaded.storage_dtype, loaded.device);
  auto source = std::make_shared<const WeightSource>(
      parts, std::move(checkpoint), loaded.storage_dtype, options.dtype == "auto", options.seed);
  set_values(later, *source, loaded);
  if (later) loaded.source = std::move(source);
  loaded.model->set_compute_dtype(loaded.compute_dtype);
  std::tie(loaded.attention, loaded.attention_reason) =
      choose_attention(*loaded.model, options.attn_implementation, loaded.device);
  for (const auto& each : adapters) {
    each->initialise(*loaded.model, options.seed);
    for (const auto& parameter : each->parameters())
      parameter->set_value(parameter->value().detach().to(loaded.device));
  }
  loaded.adapter = std::move(adapter);
  // What conversions of dtypes took for a while.
  CachingAllocator::instance().release_free();
  return loaded;
}

void read_values(LoadedModel& loaded, const ParallelStrategy& strategy) {
  const MemoryPurposeScope purpose(MemoryPurpose::kParameters);
  const at::NoGradGuard no_grad;
  const ModelParts& parts = loaded.model->parts();
  ProblemList problems;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    Parameter& parameter = *parts.parameters[i];
    if (loaded.quantised.contains(&parameter)) {
      read_quantised(loaded, strategy, i, problems);
      continue;
    }
    const at::Tensor local =
        at::empty(parameter.value().sizes(),
                  at::TensorOptions().dtype(parameter.value().scalar_type()).device(at::kCPU));
    for (const ShardPiece& piece : strategy.layout(parameter).pieces)
      box(local, piece.local_offset, piece.extent).copy_(loaded.source->read(i, piece));
    if (loaded.source->is_stored(i)) check_finite(local, parameter.name(), problems);
    parameter.set_value(local.to(strategy.leaf_device(parameter, loaded.device)));
  }
  problems.throw_if_any();
  loaded.source.reset();
}

void require_language_model(const LoadedModel& loaded, const std::string& command) {
  if (loaded.task == Task::kCausalLm) return;
  throw Error(Problem{ErrorCode::kUnsupported, command + " needs a language model",
                      task_name(loaded.task), "a model with a head over the vocabulary",
                      loaded.folder + "/config.json: architectures",
                      "espalier score --input FILE.safetensors --logits gives its scores"});
}

}  // namespace espalier

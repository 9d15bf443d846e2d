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
bool quantise(const Quantizer& quantizer, Model& model, const Parameter& parameter,
              const at::Tensor& value) {
  for (nn::Linear* linear : model.parts().linears) {
    if (linear->weight().get() != &parameter || linear == &model.head().linear() ||
        dynamic_cast<const nn::DenseWeight*>(&linear->storage()) == nullptr)
      continue;
    std::unique_ptr<nn::WeightStorage> storage = quantizer.hold(*linear, value);
    if (storage == nullptr) return false;
    linear->set_storage(std::move(storage));
    return true;
  }
  return false;
}

void set_values(const ModelLoadOptions& options, const WeightSource& source, LoadedModel& loaded) {
  const ModelParts& parts = loaded.model->parts();
  ProblemList problems;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    Parameter& parameter = *parts.parameters[i];
    if (options.without_values) {
      parameter.set_value(at::empty(parameter.spec().shape(),
                                    at::TensorOptions().dtype(source.dtype(i)).device(at::kMeta)));
      continue;
    }
    const at::Tensor value = source.read(i);
    if (source.is_stored(i)) check_finite(value, parameter.name(), problems);
    if (options.quantizer == nullptr ||
        !quantise(*options.quantizer, *loaded.model, parameter, value.to(loaded.device)))
      parameter.set_value(value.to(loaded.device));
  }
  problems.throw_if_any();
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
  ModelParts& parts = loaded.model->parts();
  std::vector<std::shared_ptr<Adapter>> adapters = options.further_adapters;
  if (adapter != nullptr) adapters.insert(adapters.begin(), adapter);
  for (const auto& each : adapters) each->attach(*loaded.model);

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
  set_values(options, *source, loaded);
  if (options.without_values) loaded.source = std::move(source);
  loaded.model->set_compute_dtype(loaded.compute_dtype);
  std::tie(loaded.attention, loaded.attention_reason) =
      choose_attention(*loaded.model, options.attn_implementation, loaded.device);
  for (const auto& each : adapters) each->initialise(*loaded.model, options.seed);
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
    const at::Tensor local =
        at::empty(parameter.value().sizes(),
                  at::TensorOptions().dtype(parameter.value().scalar_type()).device(at::kCPU));
    for (const ShardPiece& piece : strategy.layout(parameter).pieces)
      box(local, piece.local_offset, piece.extent).copy_(loaded.source->read(i, piece));
    if (loaded.source->is_stored(i)) check_finite(local, parameter.name(), problems);
    parameter.set_value(local.to(loaded.device));
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

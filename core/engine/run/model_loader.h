#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/model_files.h"
#include "engine/run/task.h"
#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/value.h"
#include "espalier/nn/quantizer.h"
#include "espalier/sdk/adapter.h"
#include "espalier/sdk/model.h"

namespace espalier {

class ParallelStrategy;
class WeightSource;

/// How a model is to be loaded; names as in the recipe's [model] section.
struct ModelLoadOptions {
  std::string dtype = "auto";          ///< storage: "auto" keeps what the checkpoint has
  std::string device = "auto";         ///< see choose_device
  std::string compute_dtype = "auto";  ///< "auto": see choose_compute_dtype
  bool random_weights = false;         ///< from_config: values by the config's initialisation
  std::uint64_t seed = 0;
  Value config;               ///< overrides of config.json, see plugin::with_config_overrides
  std::string task = "auto";  ///< see task_of
  std::string attn_implementation = "auto";  ///< see choose_attention
  /// What the family's class for token classification calls a new head.
  std::string token_head = "score";
  /// Attached beside the adapter that load_model is given; all are on afterwards.
  std::vector<std::shared_ptr<Adapter>> further_adapters;
  std::shared_ptr<const Quantizer> quantizer;  ///< of linears' weights; nullptr: they stay dense
  /// Parameters stay on the meta device, in their dtype: see LoadedModel::source. But for adapters
  /// and quantizers that look at values.
  bool without_values = false;
  ModelFiles files;
};

/// A model with values, and where it came from.
struct LoadedModel {
  std::shared_ptr<Model> model;
  Value config;        ///< config.json with overrides, and for the task
  std::string folder;  ///< absolute
  at::Device device = at::kCPU;
  at::ScalarType storage_dtype = at::kFloat;
  at::ScalarType compute_dtype = at::kFloat;
  std::string compute_reason;  ///< why that dtype, for the dtype plan
  Task task = Task::kCausalLm;
  std::int64_t num_labels = 0;  ///< of a classifier
  std::string attention;        ///< the implementation, and why it
  std::string attention_reason;
  std::vector<std::string> tokenizer_files;    ///< see ModelFiles
  std::vector<std::string> notes;              ///< what the user should know of how it was loaded
  std::shared_ptr<Adapter> adapter;            ///< attached to the model; nullptr without one
  std::shared_ptr<const WeightSource> source;  ///< of a model that was loaded without values
  std::shared_ptr<const Quantizer> quantizer;  ///< of the weights that follow
  std::map<const Parameter*, nn::Linear*> quantised;
};

/// config.json of a model folder. Error(kBadInput) when it is missing or no JSON object.
ESPALIER_API Value read_model_config(const std::string& folder);

/// Builds the model with `provider` and reads its weights from `folder`. Everything that is
/// missing, unexpected or of the wrong shape is reported in one Error. An adapter is attached
/// before the weights have values and initialised afterwards.
ESPALIER_API LoadedModel load_model(const ModelProvider& provider, const std::string& folder,
                                    const ModelLoadOptions& options,
                                    std::shared_ptr<Adapter> adapter = nullptr);

/// Reads what this rank holds, as `strategy` lays it out, into a model that was loaded without
/// values. Numbers that are not finite are an Error(kBadInput).
void read_values(LoadedModel& loaded, const ParallelStrategy& strategy);

/// Throws Error(kUnsupported) for a model with another head than that over the vocabulary.
ESPALIER_API void require_language_model(const LoadedModel& loaded, const std::string& command);

/// bf16 and fp16 weights are computed in float32 where the CPU has no fast instructions for them:
/// LibTorch's generic bf16 kernels are a hundred times slower there. GPUs compute as stored.
/// Returns the dtype and the reason.
std::pair<at::ScalarType, std::string> choose_compute_dtype(const std::string& requested,
                                                            at::ScalarType storage,
                                                            at::Device device);

/// Bytes that all parameters take, and what stands beside them where weights are quantised.
std::int64_t parameter_bytes(const Model& model);

}  // namespace espalier

#include "engine/run/model_loader.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <fnmatch.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "engine/run/device.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/random.h"
#include "espalier/base/suggest.h"
#include "espalier/io/initial_value.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const std::int64_t size : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

bool is_ignored(const std::string& name, const ModelParts& parts) {
  return std::any_of(
      parts.ignored_on_disk.begin(), parts.ignored_on_disk.end(),
      [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

/// Checkpoints saved from the base model lack the first component of every name ("transformer."):
/// where none of the model's names is there but the shortened ones are, the mappings take the
/// shortened names.
void adopt_base_model_names(ModelParts& parts, const CheckpointReader& checkpoint) {
  std::vector<std::string*> prefixed;
  for (DiskMapping& mapping : parts.mappings) {
    for (DiskTensor& part : mapping.parts) {
      if (checkpoint.contains(part.name)) return;
      const std::size_t dot = part.name.find('.');
      if (dot != std::string::npos && checkpoint.contains(part.name.substr(dot + 1)))
        prefixed.push_back(&part.name);
    }
  }
  for (std::string* name : prefixed) name->erase(0, name->find('.') + 1);
  if (prefixed.empty()) return;
  for (std::string& pattern : parts.ignored_on_disk) {
    if (const std::size_t dot = pattern.find('.'); dot != std::string::npos)
      pattern.erase(0, dot + 1);
  }
}

/// Compares the checkpoint with what the model needs; everything wrong is said at once.
void check_checkpoint(const ModelParts& parts, const CheckpointReader& checkpoint) {
  ProblemList problems;
  std::set<std::string> expected;
  std::vector<std::string> missing;
  for (const DiskMapping& mapping : parts.mappings) {
    for (const DiskTensor& part : mapping.parts) {
      expected.insert(part.name);
      if (!checkpoint.contains(part.name)) {
        missing.push_back(part.name);
        continue;
      }
      const TensorInfo& info = checkpoint.at(part.name);
      if (part.disk_offset.empty() && info.shape != disk_shape(part)) {
        problems.add({ErrorCode::kBadInput,
                      "tensor '" + part.name + "' has another shape than config.json says",
                      shape_text(info.shape),
                      shape_text(disk_shape(part)),
                      checkpoint.path(),
                      {}});
      }
    }
  }
  std::vector<std::string> unexpected;
  for (const std::string& name : checkpoint.names()) {
    if (!expected.contains(name) && !is_ignored(name, parts)) unexpected.push_back(name);
  }
  const auto add_list = [&](const std::vector<std::string>& names, const std::string& what,
                            const std::string& hint) {
    if (names.empty()) return;
    constexpr std::size_t kShown = 10;
    std::vector<std::string> shown(
        names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kShown)));
    std::string list = join_names(shown);
    if (names.size() > kShown) list += " and " + std::to_string(names.size() - kShown) + " more";
    problems.add({ErrorCode::kBadInput,
                  std::to_string(names.size()) + what,
                  list,
                  {},
                  checkpoint.path(),
                  hint});
  };
  add_list(missing,
           missing.size() == 1 ? " tensor is missing from the checkpoint"
                               : " tensors are missing from the checkpoint",
           "the file is incomplete, or config.json belongs to another model");
  add_list(unexpected,
           unexpected.size() == 1 ? " tensor in the checkpoint belongs to no part of the model"
                                  : " tensors in the checkpoint belong to no part of the model",
           "config.json belongs to another model, or the weights were saved with extra heads");
  problems.throw_if_any();
}

at::ScalarType storage_dtype(const std::string& requested, const CheckpointReader* checkpoint,
                             const ModelParts& parts, const Value& config) {
  if (requested != "auto") return scalar_type_from_name(requested);
  if (checkpoint != nullptr && !parts.mappings.empty()) {
    return scalar_type_of(checkpoint->at(parts.mappings.front().parts.front().name).dtype);
  }
  for (const char* key : {"torch_dtype", "dtype"}) {
    const Value* value = config.find(key);
    if (value != nullptr && value->is_string()) return scalar_type_from_name(value->as_string());
  }
  return at::kFloat;
}

}  // namespace

Value read_model_config(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  if (!std::filesystem::is_directory(folder)) {
    throw_bad_input("there is no model folder '" + folder + "'", {},
                    "a folder with config.json and weights", folder,
                    "give a path to a folder, or a hub id that is in the local cache");
  }
  if (!std::filesystem::exists(path)) {
    throw_bad_input(
        "the model folder has no config.json", {}, "config.json", folder,
        "a Hugging Face model folder holds config.json, model.safetensors and tokenizer.json");
  }
  Value config = read_json_file(path, {.allow_duplicate_keys = true, .allow_nonfinite = true});
  if (!config.is_table()) throw_bad_input("config.json is no JSON object", {}, "{...}", path);
  return config;
}

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
  return bytes;
}

LoadedModel load_model(const ModelProvider& provider, const std::string& folder,
                       const ModelLoadOptions& options, std::shared_ptr<Adapter> adapter) {
  LoadedModel loaded;
  loaded.device = choose_device(options.device);
  loaded.folder = std::filesystem::absolute(folder).lexically_normal().string();
  loaded.config = read_model_config(folder);
  if (const std::string reason = provider.accepts(loaded.config); !reason.empty()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "the plugin can't build this model: " + reason,
                        {},
                        {},
                        folder + "/config.json",
                        {}});
  }
  loaded.model = provider.build(loaded.config);
  ModelParts& parts = loaded.model->parts();
  if (adapter != nullptr) adapter->attach(*loaded.model);

  std::optional<CheckpointReader> checkpoint;
  if (!options.random_weights) {
    checkpoint.emplace(folder);
    adopt_base_model_names(parts, *checkpoint);
    check_checkpoint(parts, *checkpoint);
  }
  loaded.storage_dtype =
      storage_dtype(options.dtype, checkpoint ? &*checkpoint : nullptr, parts, loaded.config);
  std::tie(loaded.compute_dtype, loaded.compute_reason) =
      choose_compute_dtype(options.compute_dtype, loaded.storage_dtype, loaded.device);
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    Parameter& parameter = *parts.parameters[i];
    const ParameterSpec& spec = parameter.spec();
    const at::ScalarType dtype = spec.buffer ? at::kFloat : loaded.storage_dtype;
    const at::Tensor value = checkpoint
                                 ? load_parameter(*checkpoint, spec, parts.mappings[i], dtype)
                                 : initial_value(spec, dtype, options.seed);
    parameter.set_value(value.to(loaded.device));
  }
  loaded.model->set_compute_dtype(loaded.compute_dtype);
  if (adapter != nullptr) adapter->initialise(*loaded.model, options.seed);
  loaded.adapter = std::move(adapter);
  return loaded;
}

}  // namespace espalier

#include "engine/run/checkpoint_match.h"

#include <fnmatch.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"

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

/// A tied weight may lie in the file under the head's name alone.
void adopt_head_name(ModelParts& parts, const CheckpointReader& checkpoint) {
  for (const std::string& head : parts.ignored_on_disk) {
    if (!checkpoint.contains(head)) continue;
    for (const nn::Embedding* embedding : parts.embeddings) {
      for (DiskMapping& mapping : parts.mappings) {
        if (mapping.parameter != embedding->weight()->name() || mapping.parts.size() != 1) continue;
        DiskTensor& part = mapping.parts.front();
        if (!checkpoint.contains(part.name) && checkpoint.at(head).shape == disk_shape(part))
          part.name = head;
      }
    }
  }
}

bool is_float(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32 ||
         dtype == DType::kF64;
}

void check_tensor(const DiskTensor& part, const TensorInfo& info, const std::string& path,
                  ProblemList& problems) {
  if (part.disk_offset.empty() && info.shape != disk_shape(part)) {
    problems.add({ErrorCode::kBadInput,
                  "tensor '" + part.name + "' has another shape than config.json says",
                  shape_text(info.shape), shape_text(disk_shape(part)), path,
                  "config.json belongs to another model, or a key of it was changed"});
  }
  if (is_float(info.dtype)) return;
  problems.add({ErrorCode::kBadInput, "tensor '" + part.name + "' holds no floating point numbers",
                std::string(dtype_config_name(info.dtype)), "float32, bfloat16 or float16", path,
                "quantised weights are not supported: fetch the model in its unquantised form"});
}

}  // namespace

void match_names(ModelParts& parts, const CheckpointReader& checkpoint) {
  adopt_base_model_names(parts, checkpoint);
  adopt_head_name(parts, checkpoint);
}

std::vector<std::string> check_checkpoint(const ModelParts& parts,
                                          const CheckpointReader& checkpoint,
                                          const std::vector<std::string>& may_be_new) {
  ProblemList problems;
  std::set<std::string> expected;
  std::vector<std::string> missing;
  std::vector<std::string> fresh;
  for (const DiskMapping& mapping : parts.mappings) {
    for (const DiskTensor& part : mapping.parts) {
      expected.insert(part.name);
      if (checkpoint.contains(part.name)) {
        check_tensor(part, checkpoint.at(part.name), checkpoint.path(), problems);
        continue;
      }
      const bool is_new = std::any_of(
          may_be_new.begin(), may_be_new.end(),
          [&](const std::string& module) { return part.name.starts_with(module + "."); });
      (is_new ? fresh : missing).push_back(part.name);
    }
  }
  std::vector<std::string> unexpected;
  for (const std::string& name : checkpoint.names()) {
    if (!expected.contains(name) && !is_ignored(name, parts)) unexpected.push_back(name);
  }
  const auto add_list = [&](const std::vector<std::string>& names, const std::string& what,
                            const std::string& hint) {
    if (names.empty()) return;
    problems.add({ErrorCode::kBadInput,
                  std::to_string(names.size()) + what,
                  join_names(names),
                  {},
                  checkpoint.path(),
                  hint});
  };
  const bool head_alone = missing.size() == 1 && unexpected.empty();
  add_list(missing,
           missing.size() == 1 ? " tensor is missing from the checkpoint"
                               : " tensors are missing from the checkpoint",
           head_alone ? "the file is incomplete; if it is the head, and shares its weight with the "
                        "embedding, set model.config.tie_word_embeddings = true"
                      : "the file is incomplete, or config.json belongs to another model");
  add_list(unexpected,
           unexpected.size() == 1 ? " tensor in the checkpoint belongs to no part of the model"
                                  : " tensors in the checkpoint belong to no part of the model",
           "config.json belongs to another model, or the weights were saved with extra heads "
           "(model.task)");
  problems.throw_if_any();
  return fresh;
}

bool has_head_of_its_own(Model& model, const CheckpointReader& checkpoint) {
  const nn::Linear& head = model.head().linear();
  const std::string name = head.name() + ".weight";
  if (!checkpoint.contains(name)) return false;
  const ModelParts& parts = model.parts();
  for (const nn::Embedding* embedding : parts.embeddings) {
    const std::string& table = embedding->weight()->name();
    if (embedding->weight() != head.weight() || !checkpoint.contains(table)) continue;
    const TensorInfo& one = checkpoint.at(name);
    const TensorInfo& other = checkpoint.at(table);
    if (one.shape != other.shape || one.dtype != other.dtype) return one.shape == other.shape;
    const auto first = checkpoint.data(name);
    const auto second = checkpoint.data(table);
    return std::memcmp(first.data(), second.data(), first.size()) != 0;
  }
  return false;
}

bool is_stored(const DiskMapping& mapping, const CheckpointReader& checkpoint) {
  return std::all_of(mapping.parts.begin(), mapping.parts.end(),
                     [&](const DiskTensor& part) { return checkpoint.contains(part.name); });
}

at::ScalarType prevailing_dtype(const ModelParts& parts, const CheckpointReader& checkpoint) {
  std::map<at::ScalarType, std::int64_t> elements;
  for (const DiskMapping& mapping : parts.mappings) {
    for (const DiskTensor& part : mapping.parts) {
      if (!checkpoint.contains(part.name)) continue;
      const TensorInfo& info = checkpoint.at(part.name);
      elements[scalar_type_of(info.dtype)] += info.element_count();
    }
  }
  const auto most = std::max_element(
      elements.begin(), elements.end(),
      [](const auto& one, const auto& other) { return one.second < other.second; });
  return most == elements.end() ? at::kFloat : most->first;
}

at::ScalarType dtype_of_parameter(const DiskMapping& mapping, const CheckpointReader& checkpoint,
                                  bool as_stored, at::ScalarType requested,
                                  at::ScalarType prevailing) {
  std::optional<at::ScalarType> stored;
  for (const DiskTensor& part : mapping.parts) {
    const at::ScalarType one = scalar_type_of(checkpoint.at(part.name).dtype);
    stored = stored ? c10::promoteTypes(*stored, one) : one;
  }
  if (!stored) return requested;
  if (as_stored) return *stored;
  const bool wider = *stored != prevailing && c10::promoteTypes(*stored, prevailing) == *stored;
  return wider ? c10::promoteTypes(*stored, requested) : requested;
}

}  // namespace espalier

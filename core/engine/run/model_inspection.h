#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/model_files.h"
#include "engine/run/model_loader.h"

namespace espalier {

/// What one part of a model consists of, by the axes that its weights declare.
struct PartSize {
  std::string
      part;  ///< "embedding", "attention", "mlp", "experts", "router", "norm", "state", "head"
  std::int64_t parameters = 0;
  std::int64_t tensors = 0;
};

/// What a model's folder holds, without reading a weight.
struct ModelInspection {
  Task task = Task::kCausalLm;
  ModelShape shape;
  bool tied = false;  ///< head and embedding are one weight
  std::vector<PartSize> parts;
  std::int64_t parameters = 0;
  /// Dtypes of the checkpoint with their numbers of elements, most first; empty without weights.
  std::vector<std::pair<std::string, std::int64_t>> dtypes;
  std::int64_t stored_bytes = 0;
  std::int64_t linear_width =
      0;                   ///< in + out over all linears: a LoRA of rank r has r times so many
  bool has_cache = false;  ///< generation keeps keys and values
  std::vector<std::string> problems;  ///< why the weights can't be loaded; empty when they can
};

/// Builds the model on the meta device and reads config.json and the headers of the weights. Throws
/// Error when the model can't be built.
ModelInspection inspect_model(const ModelProvider& provider, const std::string& folder,
                              const ModelFiles& files);

}  // namespace espalier

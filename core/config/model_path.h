#pragma once

#include <string>

namespace espalier::config {

/// The folder of a model: `model` itself where that is a folder, otherwise the snapshot of a hub id
/// ("org/name" or "org/name@revision") in the local hub cache (HF_HUB_CACHE, HF_HOME/hub or
/// ~/.cache/huggingface/hub). Throws Error(kBadInput) that says where it looked.
std::string resolve_model_path(const std::string& model);

/// The newest snapshot of the dataset `id` in the same cache; empty where there is none.
std::string find_cached_dataset(const std::string& id);

}  // namespace espalier::config

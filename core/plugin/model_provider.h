#pragma once

#include <string>

#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier::plugin {

/// What a user may say about how a model is served.
struct ProviderChoice {
  std::string provider;  ///< "vendor.name/component" or its short name; empty: found by config.json
  Value config;          ///< overrides of config.json, see with_config_overrides; null: none
  std::string tokenizer;          ///< a TokenizerFormat; empty: found by the folder's files
  std::string checkpoint_format;  ///< likewise a CheckpointFormat
};

/// The ModelProvider that serves a model folder, by the `architectures` of its config.json, or by
/// its `model_type` where it names none, or another class of the same family, and the folder brings
/// no code of its own (`auto_map`). Throws Error(kUnsupported) with the nearest names when there is
/// none, Error(kBadInput) when there are several and none is chosen; no plugin code runs.
ComponentRef model_provider_for(const Catalog& catalog, const std::string& folder,
                                const ProviderChoice& choice = {});

/// What the family's class for token classification in transformers calls its head: the property
/// `token_classification_head`, "score" where a provider declares none.
std::string token_head_of(const ComponentRef& provider);

}  // namespace espalier::plugin

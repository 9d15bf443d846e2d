#pragma once

#include <memory>
#include <optional>
#include <string>

#include "espalier/base/value.h"
#include "espalier/sdk/checkpoint_format.h"
#include "espalier/sdk/tokenizer_format.h"
#include "plugin/catalog.h"
#include "plugin/plugin_host.h"

namespace espalier::plugin {

/// The TokenizerFormat `named` (unless empty), or the one whose manifest entry serves a file of the
/// model folder or the `tokenizer_class` of its tokenizer_config.json; none where no plugin does.
/// Throws Error(kBadInput) for a name that does not exist and for several that serve the folder. No
/// plugin code runs.
std::optional<ComponentRef> tokenizer_format_for(const Catalog& catalog, const std::string& folder,
                                                 const std::string& named = {});

/// Likewise the CheckpointFormat, which has to serve a file of the folder also when it is named.
std::optional<ComponentRef> checkpoint_format_for(const Catalog& catalog, const std::string& folder,
                                                  const std::string& named = {});

/// The tokenizer that a format makes of a model folder; the format's plugin is loaded. Throws
/// Error; a null pointer is the plugin's fault.
std::shared_ptr<const Tokenizer> open_tokenizer(const PluginHost& host, const ComponentRef& format,
                                                const Value& config, const std::string& folder,
                                                Table special_tokens);

}  // namespace espalier::plugin

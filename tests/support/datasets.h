#pragma once

#include <memory>
#include <string>
#include <utility>

#include "espalier/base/config_schema.h"
#include "espalier/sdk/dataset.h"
#include "fixture_path.h"
#include "plugin/catalog.h"
#include "plugin/plugin_host.h"
#include "support/temporary_folder.h"
#include "text/chat_template_loader.h"
#include "text/tokenizer_loader.h"

namespace espalier::testing {

/// The plugins of this build, loaded as the program loads them; once, for the whole process.
inline std::shared_ptr<Dataset> make_dataset(const std::string& type, const Table& config) {
  static const plugin::Catalog kCatalog =
      plugin::Catalog::scan({.folders = {environment("ESPALIER_TEST_BUILD") + "/../lib/plugins"},
                             .environment = false,
                             .installation = false});
  static plugin::PluginHost host;
  const plugin::ComponentRef component = kCatalog.component(Dataset::kInterface.name, type);
  host.load({component.plugin});
  return host.create<Dataset>(component, config);
}

/// A context with a fixture's tokenizer, and its chat template or another.
inline DatasetContext text_context(const std::string& tokenizer,
                                   const std::string& chat_template = {}) {
  DatasetContext context;
  context.model_folder = fixture_path("tokenizers/" + tokenizer);
  context.tokenizer = text::load_tokenizer(context.model_folder);
  context.chat_template = chat_template.empty() ? text::load_chat_template(context.model_folder)
                                                : text::compile_chat_template(chat_template, {});
  return context;
}

inline std::shared_ptr<const Dataset> open_dataset(const std::string& type, const Table& config,
                                                   const DatasetContext& context) {
  const std::shared_ptr<Dataset> dataset = make_dataset(type, config);
  dataset->open(context);
  return dataset;
}

inline Table table_of(const std::vector<std::pair<std::string, Value>>& entries) {
  Table table;
  for (const auto& [key, value] : entries) table.set(key, value);
  return table;
}

}  // namespace espalier::testing

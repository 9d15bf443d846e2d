#include "engine/run/model_files.h"

#include "espalier/base/served_files.h"
#include "plugin/file_formats.h"
#include "text/special_tokens.h"
#include "text/tokenizer_loader.h"

namespace espalier {

ModelFiles model_files(const EngineCall& call, const std::string& section) {
  ModelFiles files;
  const std::string folder = call.text(section.substr(0, section.find("_model")));
  const auto& components = call.request.components;
  const auto served = [&](const std::string& key) {
    return served_files(components.at(key).component.component->serves, folder);
  };
  if (const std::string key = section + kCheckpointFormat; components.contains(key)) {
    files.checkpoint_format = call.create<CheckpointFormat>(key);
    files.checkpoint_files = served(key);
  }
  if (const std::string key = section + kTokenizerFormat; components.contains(key))
    files.tokenizer_files = served(key);
  return files;
}

std::unique_ptr<CheckpointReader> open_checkpoint(const std::string& folder,
                                                  const ModelFiles& files) {
  if (files.checkpoint_format == nullptr) return std::make_unique<CheckpointReader>(folder);
  return std::make_unique<CheckpointReader>(folder, files.checkpoint_files,
                                            *files.checkpoint_format);
}

std::shared_ptr<const Tokenizer> model_tokenizer(const EngineCall& call) {
  const std::string folder = call.text("model");
  const auto chosen = call.request.components.find(std::string("model") + kTokenizerFormat);
  if (chosen != call.request.components.end())
    return plugin::open_tokenizer(call.host, chosen->second.component, chosen->second.config,
                                  folder, text::read_special_tokens(folder));
  return text::has_tokenizer(folder) ? text::load_tokenizer(folder) : nullptr;
}

}  // namespace espalier

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/commands/engine_command.h"
#include "engine/generate/generator.h"
#include "engine/run/model_loader.h"
#include "espalier/sdk/tokenizer.h"

namespace espalier {

/// Ids that end a text: eos_token_id of generation_config.json, or of config.json.
std::set<std::int64_t> stop_ids_of(const LoadedModel& loaded);

/// What the commands that write text have in common: a model with its tokenizer and template, and
/// the options of the command line.
class GenerationRequest {
 public:
  explicit GenerationRequest(const EngineCall& call);

  Model& model() { return *loaded_.model; }
  /// Switches to the adapter of that name; "" is the model alone. Throws Error(kBadInput) for a
  /// name that was not given, with `where`.
  void use_adapter(const std::string& name, const std::string& where);
  bool has_named_adapters() const { return !adapters_.empty(); }
  const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }
  const GenerateOptions& options() const { return options_; }
  const std::vector<std::string>& stops() const { return stops_; }

  /// Ids of a plain text. Throws Error(kBadInput) without a tokenizer.
  std::vector<std::int64_t> encode(const std::string& text) const;
  /// Throws Error(kBadInput) where chats can't be encoded.
  void require_chat() const;
  /// Ids of a chat that the model is to answer. Throws Error(kBadInput) without a template.
  std::vector<std::int64_t> encode_chat(const Value& messages) const;

 private:
  const Tokenizer& need_tokenizer() const;
  void read_options(const EngineCall& call);

  std::string folder_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> chat_;
  LoadedModel loaded_;
  std::map<std::string, std::shared_ptr<Adapter>> adapters_;  ///< those with names
  GenerateOptions options_;
  std::vector<std::string> stops_;
};

}  // namespace espalier

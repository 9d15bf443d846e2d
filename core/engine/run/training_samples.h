#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/host_config.h"
#include "engine/generate/generator.h"
#include "engine/run/model_loader.h"
#include "engine/run/run_data.h"

namespace espalier {

/// Texts that the model in training writes at validations. It draws its random numbers from a seed
/// of its own and leaves no trace in the model: the training's curve is the same with it and
/// without.
class TrainingSamples {
 public:
  /// Throws Error(kBadInput) for prompts that can't be read or encoded, Error(kUnsupported) for a
  /// model that writes no text. `model` and its adapter outlive this object.
  TrainingSamples(const config::GenerationSamplesConfig& config, const RunData& data,
                  const LoadedModel& model);

  bool empty() const { return prompts_.empty(); }
  /// Writes one token, so that what can't work fails before the first step.
  void try_out() const;
  /// A line of samples.jsonl: {"step", "samples": [{"prompt" or "messages", "answer", "ending"}]}.
  Value write(std::int64_t step) const;

 private:
  struct Prompt {
    Table shown;  ///< with "prompt" or "messages"
    std::vector<std::int64_t> ids;
  };

  void add(const Value& line);
  std::vector<Answer> answers(std::int64_t max_new_tokens) const;

  const LoadedModel& model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> chat_;
  GenerateOptions options_;
  std::vector<Prompt> prompts_;
};

}  // namespace espalier

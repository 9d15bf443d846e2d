#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/commands/engine_command.h"
#include "espalier/base/checkpoint_reader.h"
#include "espalier/sdk/checkpoint_format.h"
#include "espalier/sdk/tokenizer.h"

namespace espalier {

/// What plugins read of a model folder, where the host's own kinds of files are not there or the
/// recipe names a format.
struct ModelFiles {
  std::shared_ptr<const CheckpointFormat>
      checkpoint_format;  ///< nullptr: the host reads the weights
  std::vector<std::string> checkpoint_files;
  std::vector<std::string> tokenizer_files;  ///< belong to an exported model as well
};

/// As the front end chose for the model of a section ("model", "teacher_model", "tuned_model").
ModelFiles model_files(const EngineCall& call, const std::string& section = "model");

/// The weights of a model folder.
std::unique_ptr<CheckpointReader> open_checkpoint(const std::string& folder,
                                                  const ModelFiles& files);

/// The tokenizer of the call's model folder; nullptr where there is none.
std::shared_ptr<const Tokenizer> model_tokenizer(const EngineCall& call);

}  // namespace espalier

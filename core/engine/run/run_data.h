#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/commands/engine_command.h"
#include "engine/data/loader.h"
#include "engine/run/run_settings.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// A validation set and its name: "" for [validation_dataset], "news" for
/// [validation_dataset_news].
struct ValidationSet {
  std::string name;
  std::shared_ptr<const Dataset> dataset;
};

/// The data of a recipe, opened, with what it is made by.
struct RunData {
  std::shared_ptr<const Tokenizer> tokenizer;         ///< nullptr: the model folder has none
  std::shared_ptr<const ChatTemplate> chat_template;  ///< the same
  std::shared_ptr<const Dataset> training;
  std::vector<ValidationSet> validation;
};

/// Reads the tokenizer of the model's folder and opens every dataset of the recipe. Notes go to
/// stderr, unless `quiet`. `makes_caches`: files of tokens are written where there are none; false
/// in all processes of a host but one. Throws Error.
RunData open_data(const EngineCall& call, const RunSettings& settings, bool quiet,
                  bool makes_caches = true);

/// How the recipe wants samples to become batches. `max_positions`: longest document that the
/// model takes; 0: not known.
LoaderOptions loader_options(const RunSettings& settings, const Tokenizer* tokenizer,
                             std::int64_t max_positions);

/// A dataset once, in order, in micro-batches of rows that are packed where training packs: every
/// `share_count`th of them, and fillers where there is none left for this share.
std::vector<Batch> batches_in_order(const Dataset& dataset, const LoaderOptions& options);

}  // namespace espalier

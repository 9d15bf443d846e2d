#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/data/data_recognition.h"
#include "engine/data/data_report.h"
#include "engine/run/model_inspection.h"
#include "espalier/base/value.h"

namespace espalier {

/// What is known before a recipe is drafted.
struct DraftFacts {
  std::string model;       ///< as the user gave it
  std::string data;        ///< the same
  std::string dataset;     ///< name of the component
  std::string adapter;     ///< name of the default adapter; empty: there is none
  std::string output;      ///< file of the recipe
  bool has_split = false;  ///< the dataset takes a part of its records
  bool has_lr = false;     ///< the default optimizer has a setting lr
  DataPattern pattern;
  DataSketch sketch;
  LabelSet labels;
  DataReport report;
  ModelInspection inspection;
  std::int64_t memory_bytes = 0;  ///< that this machine can give to a run
};

/// Settings of the dataset, with what stands for something filled in. `length`: tokens of a sample.
Value dataset_settings(const DataPattern& pattern, const std::string& path, const LabelSet& labels,
                       std::int64_t length);
/// Tokens of a sample where the data is one long text.
std::int64_t sample_length(std::int64_t max_positions);

/// A recipe with comments that say what was chosen and why, and the same choices as sentences.
struct RecipeDraft {
  std::string toml;
  std::vector<std::string> choices;
};
RecipeDraft draft_recipe(const DraftFacts& facts);

/// Memory that processes of this machine can still take, or the limit of its container; 0: not
/// known.
std::int64_t available_memory();

}  // namespace espalier

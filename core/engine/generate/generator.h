#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string_view>
#include <vector>

#include "engine/generate/sampler.h"
#include "engine/generate/text_runner.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// When a beam search with as many finished texts as beams ends, as in transformers.
enum class EarlyStopping {
  kNo,     ///< when the running beams can't become better at their present length
  kYes,    ///< at once
  kNever,  ///< when they can't become better at any length
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 128;
  std::set<std::int64_t> stop_ids;  ///< an id of these ends the answer, and is part of it
  SamplingOptions sampling;
  std::int64_t num_answers = 1;  ///< for each prompt
  std::int64_t num_beams = 1;    ///< above 1: beam search
  double length_penalty = 1.0;   ///< score of a beam: log probability / length ^ penalty
  EarlyStopping early_stopping = EarlyStopping::kNo;
  bool log_probabilities = false;
  /// Number of the first prompt: what is drawn for a prompt depends on its number, not on those
  /// beside it.
  std::uint64_t first_prompt = 0;

  /// Throws Error(kBadInput) for values out of range, with the option of the command line.
  ESPALIER_API void check() const;
};

enum class Ending { kLength, kStopId, kSink };

struct Answer {
  std::vector<std::int64_t> ids;
  /// Natural logarithm of the model's own probability of each id, before penalties and filters;
  /// where they were asked for.
  std::vector<double> log_probabilities;
  double score = 0.0;  ///< of a beam
  Ending ending = Ending::kLength;
};

/// Called after each token of answer `answer`; false ends that answer.
using AnswerSink = std::function<bool(std::size_t answer, std::int64_t id)>;
/// The same for a single answer.
using IdSink = std::function<bool(std::int64_t id)>;

/// Continues each prompt: `num_answers` answers of the first, then of the next, all side by side.
/// With beams, the best ones, best first, and the sink hears of a beam when it is complete.
/// Throws Error(kBadInput) for an empty prompt and options out of range.
ESPALIER_API std::vector<Answer> generate_answers(
    TextRunner& runner, const std::vector<std::vector<std::int64_t>>& prompts,
    const GenerateOptions& options, const AnswerSink& sink = {});

/// One prompt, one answer.
ESPALIER_API std::vector<std::int64_t> generate(Model& model,
                                                const std::vector<std::int64_t>& prompt,
                                                const GenerateOptions& options,
                                                const IdSink& sink = {});

}  // namespace espalier

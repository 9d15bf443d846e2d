#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/options.h"
#include "espalier/base/value.h"

namespace espalier::app {

/// The options that all commands have which write text. Those that were given go to the engine,
/// which checks their ranges.
class GenerationOptions {
 public:
  void declare(Options& options);
  void store(Table& table) const;

 private:
  std::int64_t max_new_tokens_ = 128;
  bool ignore_eos_ = false;
  std::vector<std::string> stops_;
  std::optional<double> temperature_;
  std::optional<double> top_h_;
  std::optional<std::int64_t> top_k_;
  std::optional<double> top_p_;
  std::optional<double> min_p_;
  std::optional<double> typical_p_;
  std::optional<double> epsilon_cutoff_;
  std::optional<double> eta_cutoff_;
  std::optional<double> repetition_penalty_;
  std::optional<std::int64_t> no_repeat_ngram_size_;
  std::optional<std::int64_t> min_new_tokens_;
  std::optional<std::int64_t> seed_;
  std::string dtype_;
};

}  // namespace espalier::app

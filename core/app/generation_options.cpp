#include "app/generation_options.h"

namespace espalier::app {

void GenerationOptions::declare(Options& options) {
  options.value("max-new-tokens", max_new_tokens_, "stop after that many tokens")
      .flag("ignore-eos", ignore_eos_, "go on after an end-of-text token")
      .values("stop", stops_, "end the answer before this text, no part of which is shown")
      .value("temperature", temperature_, "sample with this temperature; below 1 is more certain")
      .value("top-h", top_h_, "sample from the most likely tokens with share H of the entropy")
      .value("top-k", top_k_, "sample from the K most likely tokens")
      .value("top-p", top_p_, "sample from the most likely tokens that together have probability P")
      .value("min-p", min_p_,
             "sample from tokens at least P times as likely as the most likely one")
      .value("typical-p", typical_p_,
             "sample from the most typical tokens that together have probability P")
      .value("epsilon-cutoff", epsilon_cutoff_, "sample from tokens at least this likely")
      .value("eta-cutoff", eta_cutoff_,
             "the same with a limit that falls where the model is uncertain")
      .value("repetition-penalty", repetition_penalty_,
             "above 1: tokens of the text so far become less likely")
      .value("no-repeat-ngram-size", no_repeat_ngram_size_,
             "no N tokens come a second time in the same order")
      .value("min-new-tokens", min_new_tokens_, "no end of text before that many tokens")
      .value("seed", seed_, "of the sampling (default 0)")
      .value("dtype", dtype_, "dtype of weights and arithmetic (default: as stored)");
}

void GenerationOptions::store(Table& table) const {
  table.set("max-new-tokens", max_new_tokens_);
  table.set("ignore-eos", ignore_eos_);
  if (!dtype_.empty()) table.set("dtype", dtype_);
  if (!stops_.empty()) {
    Array stops;
    for (const std::string& stop : stops_) stops.emplace_back(stop);
    table.set("stop", std::move(stops));
  }
  const auto set = [&](const char* name, const auto& value) {
    if (value) table.set(name, *value);
  };
  set("temperature", temperature_);
  set("top-h", top_h_);
  set("top-k", top_k_);
  set("top-p", top_p_);
  set("min-p", min_p_);
  set("typical-p", typical_p_);
  set("epsilon-cutoff", epsilon_cutoff_);
  set("eta-cutoff", eta_cutoff_);
  set("repetition-penalty", repetition_penalty_);
  set("no-repeat-ngram-size", no_repeat_ngram_size_);
  set("min-new-tokens", min_new_tokens_);
  set("seed", seed_);
}

}  // namespace espalier::app

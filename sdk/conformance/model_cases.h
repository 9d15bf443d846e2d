#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/conformance/check.h"
#include "espalier/sdk/model.h"

namespace espalier::conformance {

/// A tiny config.json of conformance.json's "configs", and what its model takes.
struct ModelCase {
  std::string name;  ///< for messages
  Value config;

  std::unique_ptr<Model> build(const Subject& subject) const;
  /// With values from the subject's seed.
  std::unique_ptr<Model> with_values(const Subject& subject) const;
};

/// Runs `check` on every config of the subject; skips where there is none.
void for_each_case(const Subject& subject, Report& report,
                   const std::function<void(const ModelCase&, Report&)>& check);

constexpr std::int64_t kModelVocabulary = 16;  ///< ids are drawn below this

/// [batch, length] ids for a model.
at::Tensor model_ids(const Subject& subject, std::int64_t batch, std::int64_t length);

/// Logits of all real tokens, flat [tokens, vocab] float32.
at::Tensor model_logits(Model& model, const ModelInput& input);

// In files of their own: what a model declares, and what it computes.
void check_model_accepts(const Subject& subject, Report& report);
void check_model_meta(const Subject& subject, Report& report);
void check_model_names(const Subject& subject, Report& report);
void check_model_mappings(const Subject& subject, Report& report);
void check_model_blocks(const Subject& subject, Report& report);
void check_model_linears(const Subject& subject, Report& report);
void check_model_bad_config(const Subject& subject, Report& report);
void check_model_capabilities(const Subject& subject, Report& report);

}  // namespace espalier::conformance

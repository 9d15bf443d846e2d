#pragma once

#include <initializer_list>

#include "espalier/base/value.h"

namespace espalier {

// What a model provider says in its property "capabilities" that its models can do. The conformance
// kit tries each claim, and that what is not claimed is not there; the host refuses a run that
// needs what is not claimed.
namespace capability {

inline constexpr const char* kCausalLm = "causal_lm";  ///< scores over the vocabulary
inline constexpr const char* kPacking = "packing";  ///< documents in one row don't see each other
inline constexpr const char* kGenerationCache = "generation_cache";  ///< make_cache gives one
inline constexpr const char* kSequenceClassification =
    "sequence_classification";  ///< takes another head, read at the end of each text
inline constexpr const char* kTokenClassification = "token_classification";
inline constexpr const char* kEmbedding = "embedding";  ///< hidden states without a head
inline constexpr const char* kAdapters = "adapters";    ///< has linears that take extensions
inline constexpr const char* kAttentionChoice = "attention_choice";  ///< has seats of attention
inline constexpr const char* kExperts = "experts";                   ///< mixtures of experts

inline constexpr const char* kAll[] = {kCausalLm,
                                       kPacking,
                                       kGenerationCache,
                                       kSequenceClassification,
                                       kTokenClassification,
                                       kEmbedding,
                                       kAdapters,
                                       kAttentionChoice,
                                       kExperts};

}  // namespace capability

/// What decoders of the SDK's blocks can do, and `more`.
inline Value decoder_capabilities(std::initializer_list<const char*> more = {}) {
  Array names;
  for (const char* name :
       {capability::kCausalLm, capability::kPacking, capability::kGenerationCache,
        capability::kSequenceClassification, capability::kTokenClassification,
        capability::kEmbedding, capability::kAdapters})
    names.emplace_back(name);
  for (const char* name : more) names.emplace_back(name);
  return names;
}

}  // namespace espalier

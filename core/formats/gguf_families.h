#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "formats/gguf_model_metadata.h"

namespace espalier::formats {

/// Where a module of a Hugging Face checkpoint goes. '#' stands for a layer's number on both sides;
/// '@' in `from` for the number of an expert, whose matrices are stacked in one tensor. A rule
/// takes "from.weight" and "from.bias" where they are there.
struct TensorRule {
  std::string_view from;
  std::string_view to;
};

/// Which modules may have a bias beside the inputs of attention.
enum class Biases { kAttentionInputs, kLinears, kNorms, kAll };

/// How one family of models is written to GGUF, which has a layout for each (general.architecture).
/// The facts are those of llama.cpp's graphs; an architecture stands here only when its logits were
/// compared.
struct GgufFamily {
  std::span<const std::string_view> architectures;  ///< as in config.json
  std::string_view name;                            ///< general.architecture
  std::initializer_list<std::span<const TensorRule>> rules;
  void (*describe)(ModelMetadata& metadata) = nullptr;
  /// Rows of attn_q and attn_k are stored with the halves of the rotary dimensions interleaved.
  bool interleaves_rotary = false;
  Biases biases = Biases::kAttentionInputs;
  /// A model that ties its head to the embedding is written with both.
  bool needs_head = false;
  /// Norm weights are stored with 1 added, which the model does when it computes.
  bool norms_add_one = false;
  /// Matrices of layers are stored [in, out] in the checkpoint.
  bool transposed = false;
  /// Rows of attn_qkv are [head][q, k, v] in the checkpoint and [q, k, v][head] in GGUF.
  bool qkv_by_head = false;
};

/// Error(kUnsupported) with the list of those that there are when there is none for
/// `architecture`; `where` names the config.
const GgufFamily& find_gguf_family(std::string_view architecture, const std::string& where);

}  // namespace espalier::formats

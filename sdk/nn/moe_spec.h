#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace espalier::nn {

/// How a token chooses its experts.
struct RouterSpec {
  enum class Kind {
    kSoftmax,     ///< the k largest of softmax(logits)
    kTopSoftmax,  ///< softmax over the k largest logits (gpt-oss)
    kSigmoid,     ///< the k largest of sigmoid(logits), computed in float32 (DeepSeek-V3)
  };

  Kind kind = Kind::kSoftmax;
  std::int64_t num_experts = 0;
  std::int64_t num_experts_per_tok = 0;
  bool normalised = false;       ///< the weights of a token's experts sum to 1
  double scaling_factor = 1.0;   ///< on the weights, after that
  bool bias = false;             ///< of the logits
  bool correction_bias = false;  ///< a buffer added to the scores for the choice, not the weights
  /// Experts come from the `topk_group` of `n_group` groups whose two best experts score highest.
  std::int64_t n_group = 1;
  std::int64_t topk_group = 1;
};

/// A SwiGLU that is clamped: (up + 1) * gate * sigmoid(alpha * gate), gate at most `limit`, up
/// between -limit and limit.
struct ClampedSwiglu {
  double alpha = 1.702;
  double limit = 7.0;
};

/// Where the parts of a mixture are called what, relative to the layer.
struct MoeNames {
  std::string router = "mlp.gate";
  std::string experts = "mlp.experts";
  std::string gate = "gate_proj";  ///< of an expert; "" for experts without a gate
  std::string up = "up_proj";
  std::string down = "down_proj";
  std::string shared = "mlp.shared_experts";
  std::string shared_gate = "mlp.shared_expert_gate";
  std::string latent_in;  ///< projections around the experts, where they work in a narrower space
  std::string latent_out;
};

/// A mixture of experts in place of the MLP of some layers.
struct MoeSpec {
  RouterSpec router;
  MoeNames names;
  std::vector<bool> layers;                   ///< which have a mixture; empty: all
  std::int64_t intermediate_size = 0;         ///< of one expert
  std::int64_t shared_intermediate_size = 0;  ///< of the MLP that sees every token; 0: none
  bool shared_gate = false;                   ///< the shared MLP's output times sigmoid(w x)
  std::int64_t latent_size = 0;               ///< width of the experts' space; 0: the model's
  bool bias = false;                          ///< in the experts
  std::optional<ClampedSwiglu> clamped;       ///< instead of the model's activation
  /// Stored as [experts, in, out] for all experts, gate and up columns taking turns, instead of one
  /// tensor an expert and projection.
  bool fused_on_disk = false;
  /// Weight of the load-balancing loss in training; 0: not computed.
  double auxiliary_weight = 0.0;

  /// Inner width that one token passes through.
  std::int64_t active_intermediate_size() const {
    return router.num_experts_per_tok * intermediate_size + shared_intermediate_size;
  }
  bool serves(std::int64_t layer) const {
    return layers.empty() || layers.at(static_cast<std::size_t>(layer));
  }
};

}  // namespace espalier::nn

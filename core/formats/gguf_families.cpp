#include "formats/gguf_families.h"

#include <algorithm>
#include <string>

#include "espalier/base/error.h"

namespace espalier::formats {
namespace {

constexpr TensorRule kEnds[] = {{"model.embed_tokens", "token_embd"},
                                {"model.norm", "output_norm"},
                                {"lm_head", "output"},
                                {"model.layers.#.input_layernorm", "blk.#.attn_norm"}};
constexpr TensorRule kAttention[] = {{"model.layers.#.self_attn.q_proj", "blk.#.attn_q"},
                                     {"model.layers.#.self_attn.k_proj", "blk.#.attn_k"},
                                     {"model.layers.#.self_attn.v_proj", "blk.#.attn_v"},
                                     {"model.layers.#.self_attn.o_proj", "blk.#.attn_output"}};
constexpr TensorRule kHeadNorms[] = {{"model.layers.#.self_attn.q_norm", "blk.#.attn_q_norm"},
                                     {"model.layers.#.self_attn.k_norm", "blk.#.attn_k_norm"}};
constexpr TensorRule kFeedForwardNorm[] = {
    {"model.layers.#.post_attention_layernorm", "blk.#.ffn_norm"}};
constexpr TensorRule kGatedMlp[] = {{"model.layers.#.mlp.gate_proj", "blk.#.ffn_gate"},
                                    {"model.layers.#.mlp.up_proj", "blk.#.ffn_up"},
                                    {"model.layers.#.mlp.down_proj", "blk.#.ffn_down"}};
constexpr TensorRule kPostNorms[] = {
    {"model.layers.#.post_attention_layernorm", "blk.#.post_attention_norm"},
    {"model.layers.#.pre_feedforward_layernorm", "blk.#.ffn_norm"},
    {"model.layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm"}};
constexpr TensorRule kAttentionPostNorm[] = {
    {"model.layers.#.post_attention_layernorm", "blk.#.post_attention_norm"}};
constexpr TensorRule kMixtralExperts[] = {
    {"model.layers.#.block_sparse_moe.gate", "blk.#.ffn_gate_inp"},
    {"model.layers.#.block_sparse_moe.experts.@.w1", "blk.#.ffn_gate_exps"},
    {"model.layers.#.block_sparse_moe.experts.@.w2", "blk.#.ffn_down_exps"},
    {"model.layers.#.block_sparse_moe.experts.@.w3", "blk.#.ffn_up_exps"}};
constexpr TensorRule kQwenExperts[] = {
    {"model.layers.#.mlp.gate", "blk.#.ffn_gate_inp"},
    {"model.layers.#.mlp.experts.@.gate_proj", "blk.#.ffn_gate_exps"},
    {"model.layers.#.mlp.experts.@.down_proj", "blk.#.ffn_down_exps"},
    {"model.layers.#.mlp.experts.@.up_proj", "blk.#.ffn_up_exps"}};
constexpr TensorRule kFusedProjections[] = {
    {"model.layers.#.self_attn.qkv_proj", "blk.#.attn_qkv"},
    {"model.layers.#.self_attn.o_proj", "blk.#.attn_output"},
    {"model.layers.#.mlp.gate_up_proj", "blk.#.ffn_up"},
    {"model.layers.#.mlp.down_proj", "blk.#.ffn_down"}};
constexpr TensorRule kConvolutionMlp[] = {{"model.layers.#.mlp.c_fc", "blk.#.ffn_up"},
                                          {"model.layers.#.mlp.c_proj", "blk.#.ffn_down"}};
constexpr TensorRule kPlainMlp[] = {{"model.layers.#.mlp.up_proj", "blk.#.ffn_up"},
                                    {"model.layers.#.mlp.down_proj", "blk.#.ffn_down"}};
constexpr TensorRule kGpt2[] = {{"transformer.wte", "token_embd"},
                                {"transformer.wpe", "position_embd"},
                                {"transformer.ln_f", "output_norm"},
                                {"lm_head", "output"},
                                {"transformer.h.#.ln_1", "blk.#.attn_norm"},
                                {"transformer.h.#.attn.c_attn", "blk.#.attn_qkv"},
                                {"transformer.h.#.attn.c_proj", "blk.#.attn_output"},
                                {"transformer.h.#.ln_2", "blk.#.ffn_norm"},
                                {"transformer.h.#.mlp.c_fc", "blk.#.ffn_up"},
                                {"transformer.h.#.mlp.c_proj", "blk.#.ffn_down"}};
constexpr TensorRule kPhi[] = {{"model.final_layernorm", "output_norm"},
                               {"model.layers.#.self_attn.dense", "blk.#.attn_output"},
                               {"model.layers.#.mlp.fc1", "blk.#.ffn_up"},
                               {"model.layers.#.mlp.fc2", "blk.#.ffn_down"}};
constexpr TensorRule kGptNeox[] = {
    {"gpt_neox.embed_in", "token_embd"},
    {"gpt_neox.final_layer_norm", "output_norm"},
    {"embed_out", "output"},
    {"gpt_neox.layers.#.input_layernorm", "blk.#.attn_norm"},
    {"gpt_neox.layers.#.post_attention_layernorm", "blk.#.ffn_norm"},
    {"gpt_neox.layers.#.attention.query_key_value", "blk.#.attn_qkv"},
    {"gpt_neox.layers.#.attention.dense", "blk.#.attn_output"},
    {"gpt_neox.layers.#.mlp.dense_h_to_4h", "blk.#.ffn_up"},
    {"gpt_neox.layers.#.mlp.dense_4h_to_h", "blk.#.ffn_down"}};

constexpr const char* kRmsEpsilon = "attention.layer_norm_rms_epsilon";
constexpr const char* kEpsilon = "attention.layer_norm_epsilon";

/// For layouts whose attention is as wide as the model.
void expect_no_head_dim(ModelMetadata& metadata) {
  const std::int64_t hidden = metadata.size({"hidden_size", "n_embd"});
  if (metadata.heads() * metadata.head_dim() == hidden) return;
  metadata.refuse("attention is of another width than the model",
                  std::to_string(metadata.heads()) + " heads of " +
                      std::to_string(metadata.head_dim()) + " dimensions",
                  std::to_string(hidden) + " dimensions in all");
}

void describe_gated(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"silu", "swish"});
  metadata.describe_decoder(kRmsEpsilon);
  metadata.limit_context_to_window();
}

void describe_qwen3(ModelMetadata& metadata) {
  if (metadata.flag("use_sliding_window", false)) metadata.expect("use_sliding_window", false);
  metadata.expect_layer_types([](std::int64_t) { return false; });
  metadata.expect_text("hidden_act", {"silu"});
  metadata.describe_decoder(kRmsEpsilon);
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

void describe_qwen2(ModelMetadata& metadata) {
  describe_qwen3(metadata);
  expect_no_head_dim(metadata);
}

void describe_qwen3_moe(ModelMetadata& metadata) {
  describe_qwen3(metadata);
  metadata.add_size("expert_feed_forward_length", metadata.size({"moe_intermediate_size"}));
  metadata.expect("norm_topk_prob", true);
  metadata.expect("decoder_sparse_step", 1);
  metadata.expect("mlp_only_layers", Array{});
}

void describe_smollm3(ModelMetadata& metadata) {
  describe_gated(metadata);
  const Value* with_rotary = metadata.find({"no_rope_layers"});
  for (std::size_t i = 0; with_rotary != nullptr && i < with_rotary->as_array().size(); ++i) {
    if ((with_rotary->as_array()[i] == Value(1)) != ((i + 1) % 4 != 0)) {
      metadata.refuse("the layers without rotary embedding are others than in the layout of GGUF",
                      "layer " + std::to_string(i), "every fourth");
      return;
    }
  }
}

void describe_gemma(ModelMetadata& metadata) {
  metadata.expect_text("hidden_activation", {"gelu_pytorch_tanh"});
  metadata.describe_decoder(kRmsEpsilon);
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

/// llama.cpp takes 1 / sqrt(head_dim), or for the largest model of the family the published other.
void expect_usual_scale(ModelMetadata& metadata) {
  constexpr std::int64_t kGemma2Largest = 46;
  constexpr std::int64_t kGemma3Largest = 62;
  const bool largest = metadata.layers() == kGemma2Largest || metadata.layers() == kGemma3Largest;
  const std::int64_t usual =
      largest ? metadata.size({"hidden_size"}) / metadata.heads() : metadata.head_dim();
  const double scalar = metadata.number({"query_pre_attn_scalar"}, static_cast<double>(usual));
  if (scalar != static_cast<double>(usual)) {
    metadata.refuse("attention has another scale than the layout of GGUF",
                    "query_pre_attn_scalar " + std::to_string(scalar), std::to_string(usual));
  }
}

void describe_gemma2(ModelMetadata& metadata) {
  describe_gemma(metadata);
  expect_usual_scale(metadata);
  metadata.expect_layer_types([](std::int64_t layer) { return layer % 2 == 0; });
  metadata.add_size("attention.sliding_window", metadata.size({"sliding_window"}));
  metadata.add_number("attn_logit_softcapping", metadata.number({"attn_logit_softcapping"}));
  metadata.add_number("final_logit_softcapping", metadata.number({"final_logit_softcapping"}));
}

void describe_gemma3(ModelMetadata& metadata) {
  describe_gemma(metadata);
  expect_usual_scale(metadata);
  metadata.expect_layer_types([](std::int64_t layer) { return layer % 6 != 5; });
  metadata.expect("sliding_window_pattern", 6);
  metadata.expect("attn_logit_softcapping", Value());
  metadata.add_size("attention.sliding_window", metadata.size({"sliding_window"}));
  double local = metadata.number({"rope_local_base_freq"}, 10000);
  if (const Value* parameters = metadata.find({"rope_parameters"})) {
    const Value* theta = parameters->find_path("sliding_attention.rope_theta");
    if (theta != nullptr) local = theta->as_float();
  }
  metadata.add_number("rope.freq_base_swa", local);
  if (metadata.find({"final_logit_softcapping"}) != nullptr)
    metadata.add_number("final_logit_softcapping", metadata.number({"final_logit_softcapping"}));
}

void describe_phi3(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"silu"});
  metadata.describe_decoder(kRmsEpsilon, metadata.rotary_share(1));
  expect_no_head_dim(metadata);
  metadata.limit_context_to_window();
}

void describe_gpt2(ModelMetadata& metadata) {
  metadata.expect_text("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  metadata.expect("scale_attn_by_inverse_layer_idx", false);
  metadata.expect("scale_attn_weights", true);
  metadata.describe_decoder(kEpsilon, 0);
  metadata.add_size("context_length", metadata.size({"n_positions", "n_ctx"}));
}

void describe_granite(ModelMetadata& metadata) {
  describe_gated(metadata);
  metadata.add_number("attention.scale", metadata.number({"attention_multiplier"}, 1));
  metadata.add_number("embedding_scale", metadata.number({"embedding_multiplier"}, 1));
  metadata.add_number("residual_scale", metadata.number({"residual_multiplier"}, 1));
  metadata.add_number("logit_scale", metadata.number({"logits_scaling"}, 1));
}

void describe_starcoder2(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"gelu_pytorch_tanh"});
  metadata.expect("use_bias", true);
  metadata.describe_decoder(kEpsilon);
  expect_no_head_dim(metadata);
  metadata.limit_context_to_window();
}

void describe_olmo2(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"silu"});
  metadata.describe_decoder(kRmsEpsilon);
  expect_no_head_dim(metadata);
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
  if (metadata.find({"sliding_window"}) == nullptr) return;
  std::vector<bool> sliding;
  const Value* types = metadata.find({"layer_types"});
  for (std::int64_t layer = 0; layer < metadata.layers(); ++layer) {
    sliding.push_back(types != nullptr ? types->as_array().at(static_cast<std::size_t>(layer)) ==
                                             Value("sliding_attention")
                                       : (layer + 1) % 4 != 0);
  }
  metadata.add_size("attention.sliding_window", metadata.size({"sliding_window"}));
  metadata.add_flags("attention.sliding_window_pattern", sliding);
}

void describe_stablelm(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"silu"});
  metadata.expect("qk_layernorm", false);
  metadata.describe_decoder(kEpsilon, metadata.rotary_share(0.25));
  expect_no_head_dim(metadata);
  metadata.add_flag("use_parallel_residual", metadata.flag("use_parallel_residual", false));
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

void describe_nemotron(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"relu2"});
  metadata.describe_decoder(kEpsilon, metadata.rotary_share(0.5));
  expect_no_head_dim(metadata);
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

void describe_phi(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"gelu_new", "gelu_pytorch_tanh"});
  metadata.expect("qk_layernorm", false);
  metadata.describe_decoder(kEpsilon, metadata.rotary_share(0.5));
  expect_no_head_dim(metadata);
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

void describe_gpt_neox(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"gelu", "gelu_fast", "gelu_new"});
  metadata.expect("attention_bias", true);
  metadata.describe_decoder(kEpsilon, metadata.rotary_share(0.25));
  expect_no_head_dim(metadata);
  metadata.add_flag("use_parallel_residual", metadata.flag("use_parallel_residual", true));
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

void describe_cohere(ModelMetadata& metadata) {
  metadata.expect_text("hidden_act", {"silu"});
  metadata.expect("use_qk_norm", false);
  metadata.describe_decoder(kEpsilon);
  expect_no_head_dim(metadata);
  metadata.add_number("logit_scale", metadata.number({"logit_scale"}));
  metadata.add_size("context_length", metadata.size({"max_position_embeddings"}));
}

constexpr std::string_view kLlamaNames[] = {"LlamaForCausalLM", "MistralForCausalLM"};
constexpr std::string_view kMixtralNames[] = {"MixtralForCausalLM"};
constexpr std::string_view kQwen2Names[] = {"Qwen2ForCausalLM"};
constexpr std::string_view kQwen3Names[] = {"Qwen3ForCausalLM"};
constexpr std::string_view kQwen3MoeNames[] = {"Qwen3MoeForCausalLM"};
constexpr std::string_view kSmolLm3Names[] = {"SmolLM3ForCausalLM"};
constexpr std::string_view kGemmaNames[] = {"GemmaForCausalLM"};
constexpr std::string_view kGemma2Names[] = {"Gemma2ForCausalLM"};
constexpr std::string_view kGemma3Names[] = {"Gemma3ForCausalLM"};
constexpr std::string_view kPhi3Names[] = {"Phi3ForCausalLM"};
constexpr std::string_view kGpt2Names[] = {"GPT2LMHeadModel"};
constexpr std::string_view kGraniteNames[] = {"GraniteForCausalLM"};
constexpr std::string_view kStarcoder2Names[] = {"Starcoder2ForCausalLM"};
constexpr std::string_view kOlmo2Names[] = {"Olmo2ForCausalLM", "Olmo3ForCausalLM"};
constexpr std::string_view kStableLmNames[] = {"StableLmForCausalLM"};
constexpr std::string_view kNemotronNames[] = {"NemotronForCausalLM"};
constexpr std::string_view kSeedOssNames[] = {"SeedOssForCausalLM"};
constexpr std::string_view kPhiNames[] = {"PhiForCausalLM"};
constexpr std::string_view kGptNeoxNames[] = {"GPTNeoXForCausalLM"};
constexpr std::string_view kCohereNames[] = {"CohereForCausalLM"};

std::span<const GgufFamily> families() {
  static const GgufFamily kFamilies[] = {
      {kLlamaNames,
       "llama",
       {kEnds, kAttention, kFeedForwardNorm, kGatedMlp},
       describe_gated,
       true,
       Biases::kLinears},
      {kMixtralNames,
       "llama",
       {kEnds, kAttention, kFeedForwardNorm, kMixtralExperts},
       describe_gated,
       true,
       Biases::kLinears},
      {kQwen2Names, "qwen2", {kEnds, kAttention, kFeedForwardNorm, kGatedMlp}, describe_qwen2},
      {kQwen3Names,
       "qwen3",
       {kEnds, kAttention, kHeadNorms, kFeedForwardNorm, kGatedMlp},
       describe_qwen3},
      {kQwen3MoeNames,
       "qwen3moe",
       {kEnds, kAttention, kHeadNorms, kFeedForwardNorm, kQwenExperts},
       describe_qwen3_moe},
      {kSmolLm3Names,
       "smollm3",
       {kEnds, kAttention, kFeedForwardNorm, kGatedMlp},
       describe_smollm3,
       true},
      {.architectures = kGemmaNames,
       .name = "gemma",
       .rules = {kEnds, kAttention, kFeedForwardNorm, kGatedMlp},
       .describe = describe_gemma,
       .norms_add_one = true},
      {.architectures = kGemma2Names,
       .name = "gemma2",
       .rules = {kEnds, kAttention, kPostNorms, kGatedMlp},
       .describe = describe_gemma2,
       .norms_add_one = true},
      {.architectures = kGemma3Names,
       .name = "gemma3",
       .rules = {kEnds, kAttention, kHeadNorms, kPostNorms, kGatedMlp},
       .describe = describe_gemma3,
       .norms_add_one = true},
      {kPhi3Names, "phi3", {kEnds, kFeedForwardNorm, kFusedProjections}, describe_phi3},
      {.architectures = kGpt2Names,
       .name = "gpt2",
       .rules = {kGpt2},
       .describe = describe_gpt2,
       .biases = Biases::kAll,
       .transposed = true},
      {kGraniteNames,
       "granite",
       {kEnds, kAttention, kFeedForwardNorm, kGatedMlp},
       describe_granite,
       true,
       Biases::kLinears},
      {kStarcoder2Names,
       "starcoder2",
       {kEnds, kAttention, kFeedForwardNorm, kConvolutionMlp},
       describe_starcoder2,
       false,
       Biases::kAll},
      {kOlmo2Names,
       "olmo2",
       {kEnds, kAttention, kHeadNorms, kPostNorms, kGatedMlp},
       describe_olmo2,
       false,
       Biases::kAttentionInputs,
       true},
      {kStableLmNames,
       "stablelm",
       {kEnds, kAttention, kFeedForwardNorm, kGatedMlp},
       describe_stablelm,
       false,
       Biases::kNorms,
       true},
      {.architectures = kNemotronNames,
       .name = "nemotron",
       .rules = {kEnds, kAttention, kFeedForwardNorm, kPlainMlp},
       .describe = describe_nemotron,
       .biases = Biases::kAll,
       .needs_head = true,
       .norms_add_one = true},
      {kSeedOssNames,
       "seed_oss",
       {kEnds, kAttention, kAttentionPostNorm, kGatedMlp},
       describe_gated},
      {kPhiNames, "phi2", {kEnds, kAttention, kPhi}, describe_phi, false, Biases::kAll, true},
      {.architectures = kGptNeoxNames,
       .name = "gptneox",
       .rules = {kGptNeox},
       .describe = describe_gpt_neox,
       .biases = Biases::kAll,
       .needs_head = true,
       .qkv_by_head = true},
      {kCohereNames, "command-r", {kEnds, kAttention, kGatedMlp}, describe_cohere},
  };
  return kFamilies;
}

}  // namespace

const GgufFamily& find_gguf_family(std::string_view architecture, const std::string& where) {
  std::string known;
  for (const GgufFamily& family : families()) {
    for (const std::string_view name : family.architectures) {
      if (name == architecture) return family;
      known.append(known.empty() ? "" : ", ").append(name);
    }
  }
  throw Error(Problem{.code = ErrorCode::kUnsupported,
                      .what = "models of this architecture can't be written as GGUF",
                      .found = std::string(architecture),
                      .expected = known,
                      .where = where});
}

}  // namespace espalier::formats

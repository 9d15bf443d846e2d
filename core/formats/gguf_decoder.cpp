#include "formats/gguf_decoder.h"

#include <algorithm>
#include <optional>
#include <set>

#include "espalier/base/gguf_dequantize.h"
#include "espalier/base/json.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_rope_scaling.h"

namespace espalier::formats {
namespace {

struct Dimensions {
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocabulary = 0;
};

Dimensions read_dimensions(const GgufFile& file, ArchitectureMetadata& metadata) {
  Dimensions d;
  d.layers = metadata.size("block_count");
  d.hidden = metadata.size("embedding_length");
  d.intermediate = metadata.size("feed_forward_length");
  d.heads = metadata.size("attention.head_count");
  d.kv_heads = metadata.optional_size("attention.head_count_kv").value_or(d.heads);
  d.head_dim = metadata.optional_size("attention.key_length").value_or(d.hidden / d.heads);
  const std::int64_t value_dim =
      metadata.optional_size("attention.value_length").value_or(d.head_dim);
  const std::int64_t rotary = metadata.optional_size("rope.dimension_count").value_or(d.head_dim);
  if (static_cast<std::uint64_t>(d.layers) > file.tensors().size()) {
    throw_bad_input("the model has more layers than tensors", std::to_string(d.layers),
                    "at most " + std::to_string(file.tensors().size()), file.path());
  }
  if (value_dim != d.head_dim || rotary != d.head_dim || d.head_dim % 2 != 0 ||
      d.heads % d.kv_heads != 0) {
    throw_unsupported_gguf(
        "the attention heads are of an unusual form",
        "key length " + std::to_string(d.head_dim) + ", value length " + std::to_string(value_dim) +
            ", rotary dimensions " + std::to_string(rotary) + ", heads " + std::to_string(d.heads) +
            ", " + std::to_string(d.kv_heads),
        "equal and even lengths, heads a multiple of key and value heads", file.path());
  }
  if (metadata.find("expert_count") != nullptr && metadata.at("expert_count").as_int() != 0) {
    throw_unsupported_gguf("the model is a mixture of experts",
                           std::to_string(metadata.at("expert_count").as_int()) + " experts",
                           "a dense model", file.path());
  }
  metadata.find("expert_used_count");
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  const std::optional<std::int64_t> stated = metadata.optional_size("vocab_size");
  d.vocabulary = embedding != nullptr && embedding->shape.size() == 2 ? embedding->shape[0]
                                                                      : stated.value_or(0);
  return d;
}

/// Collects mappings and everything that is wrong with them.
class TensorMapper {
 public:
  explicit TensorMapper(const GgufFile& file) : file_(file) {}

  bool has(const std::string& gguf) const { return file_.find_tensor(gguf) != nullptr; }

  void map(const std::string& gguf, std::string name, const std::vector<std::int64_t>& shape,
           std::int64_t interleaved_heads = 0) {
    const GgufTensor* source = file_.find_tensor(gguf);
    used_.insert(gguf);
    if (source == nullptr) {
      problems_.add({.what = "tensor '" + gguf + "' is missing", .where = file_.path()});
      return;
    }
    if (source->shape != shape) {
      problems_.add({.what = "tensor '" + gguf + "' has the wrong shape",
                     .found = shape_text(source->shape),
                     .expected = shape_text(shape),
                     .where = file_.path()});
    }
    if (!can_dequantize(source->type)) {
      problems_.add({.code = ErrorCode::kUnsupported,
                     .what = "tensor '" + gguf + "' has a type that can't be dequantised",
                     .found = std::string(ggml_type_info(source->type).name),
                     .where = file_.path(),
                     .hint = "use a file in another quantisation, such as Q4_K_M or Q8_0"});
    }
    mappings_.push_back({std::move(name), source, interleaved_heads});
  }

  void ignore(const std::string& gguf) { used_.insert(gguf); }

  std::vector<TensorMapping> finish() {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (used_.contains(tensor.name)) continue;
      problems_.add({.code = ErrorCode::kUnsupported,
                     .what = "tensor '" + tensor.name + "' has no place in the architecture",
                     .found = shape_text(tensor.shape),
                     .where = file_.path()});
    }
    problems_.throw_if_any();
    return std::move(mappings_);
  }

 private:
  static std::string shape_text(const std::vector<std::int64_t>& shape) {
    return dump_json(Array(shape.begin(), shape.end()));
  }

  const GgufFile& file_;
  std::vector<TensorMapping> mappings_;
  std::set<std::string> used_;
  ProblemList problems_;
};

/// Hugging Face has one switch for the biases of all attention projections, and one for the MLP's.
struct Biases {
  bool attention = false;
  bool mlp = false;
};

Biases find_biases(const GgufFile& file) {
  const auto any = [&](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* name) {
      return file.find_tensor("blk.0." + std::string(name) + ".bias") != nullptr;
    });
  };
  return {.attention = any({"attn_q", "attn_k", "attn_v", "attn_output"}),
          .mlp = any({"ffn_gate", "ffn_up", "ffn_down"})};
}

void map_layer(TensorMapper& mapper, const Dimensions& d, const Biases& biases,
               std::int64_t layer) {
  const std::string from = "blk." + std::to_string(layer) + ".";
  const std::string to = "model.layers." + std::to_string(layer) + ".";
  const std::int64_t q_rows = d.heads * d.head_dim;
  const std::int64_t kv_rows = d.kv_heads * d.head_dim;
  const auto linear = [&](bool bias, const std::string& gguf, const std::string& name,
                          std::int64_t rows, std::int64_t columns, std::int64_t interleaved = 0) {
    mapper.map(from + gguf + ".weight", to + name + ".weight", {rows, columns}, interleaved);
    if (bias) mapper.map(from + gguf + ".bias", to + name + ".bias", {rows}, interleaved);
  };
  mapper.map(from + "attn_norm.weight", to + "input_layernorm.weight", {d.hidden});
  linear(biases.attention, "attn_q", "self_attn.q_proj", q_rows, d.hidden, d.heads);
  linear(biases.attention, "attn_k", "self_attn.k_proj", kv_rows, d.hidden, d.kv_heads);
  linear(biases.attention, "attn_v", "self_attn.v_proj", kv_rows, d.hidden);
  linear(biases.attention, "attn_output", "self_attn.o_proj", d.hidden, q_rows);
  mapper.map(from + "ffn_norm.weight", to + "post_attention_layernorm.weight", {d.hidden});
  linear(biases.mlp, "ffn_gate", "mlp.gate_proj", d.intermediate, d.hidden);
  linear(biases.mlp, "ffn_up", "mlp.up_proj", d.intermediate, d.hidden);
  linear(biases.mlp, "ffn_down", "mlp.down_proj", d.hidden, d.intermediate);
}

std::vector<TensorMapping> map_tensors(const GgufFile& file, const Dimensions& d) {
  TensorMapper mapper(file);
  mapper.map("token_embd.weight", "model.embed_tokens.weight", {d.vocabulary, d.hidden});
  const Biases biases = find_biases(file);
  for (std::int64_t layer = 0; layer < d.layers; ++layer) map_layer(mapper, d, biases, layer);
  mapper.map("output_norm.weight", "model.norm.weight", {d.hidden});
  if (mapper.has("output.weight"))
    mapper.map("output.weight", "lm_head.weight", {d.vocabulary, d.hidden});
  mapper.ignore("rope_freqs.weight");  // became rope_scaling
  return mapper.finish();
}

/// Ids of special tokens, checked against the vocabulary.
class TokenIds {
 public:
  TokenIds(const GgufFile& file, std::int64_t vocabulary) : file_(file), vocabulary_(vocabulary) {}

  /// Null when the file does not say.
  Value operator()(const std::string& name) const {
    const GgufValue* value = file_.find("tokenizer.ggml." + name + "_token_id");
    if (value == nullptr) return {};
    const std::int64_t id = value->as_int();
    if (id < 0 || id >= vocabulary_) {
      throw_bad_input("the id of the " + name + " token is outside of the vocabulary",
                      std::to_string(id), "0 to " + std::to_string(vocabulary_ - 1), file_.path());
    }
    return id;
  }

 private:
  const GgufFile& file_;
  std::int64_t vocabulary_;
};

Table decoder_config(const GgufFile& file, ArchitectureMetadata& metadata, const Dimensions& d) {
  const double theta = metadata.number("rope.freq_base", 10000);
  const TokenIds token(file, d.vocabulary);
  Table config;
  config.set("architectures", Array{"LlamaForCausalLM"});
  config.set("model_type", "llama");
  config.set("attention_bias", find_biases(file).attention);
  config.set("attention_dropout", 0.0);
  config.set("bos_token_id", token("bos"));
  config.set("eos_token_id", token("eos"));
  config.set("head_dim", d.head_dim);
  config.set("hidden_act", "silu");
  config.set("hidden_size", d.hidden);
  config.set("initializer_range", 0.02);
  config.set("intermediate_size", d.intermediate);
  config.set("max_position_embeddings", metadata.size("context_length"));
  config.set("mlp_bias", find_biases(file).mlp);
  config.set("num_attention_heads", d.heads);
  config.set("num_hidden_layers", d.layers);
  config.set("num_key_value_heads", d.kv_heads);
  config.set("pad_token_id", token("padding"));
  metadata.at("attention.layer_norm_rms_epsilon");
  config.set("rms_norm_eps", metadata.number("attention.layer_norm_rms_epsilon", 0));
  config.set("rope_scaling", map_rope_scaling(file, metadata, theta, d.head_dim));
  config.set("rope_theta", theta);
  config.set("tie_word_embeddings", file.find_tensor("output.weight") == nullptr);
  config.set("use_cache", true);
  config.set("vocab_size", d.vocabulary);
  return config;
}

Table generation_config(const GgufFile& file, const Dimensions& d) {
  const TokenIds token(file, d.vocabulary);
  const Value end_of_turn = token("eot");
  Value end = token("eos");
  if (!end.is_null() && !end_of_turn.is_null() && !(end == end_of_turn))
    end = Array{end, end_of_turn};
  Table config;
  const auto set = [&](const std::string& key, const Value& value) {
    if (!value.is_null()) config.set(key, value);
  };
  set("bos_token_id", token("bos"));
  set("eos_token_id", end);
  set("pad_token_id", token("padding"));
  return config;
}

}  // namespace

DecoderImport map_gguf_decoder(const GgufFile& file) {
  const std::string architecture(file.at("general.architecture").as_string());
  if (architecture != "llama") {
    throw_unsupported_gguf("GGUF files of this architecture can't be imported", architecture,
                           "llama (which Llama, Mistral, SmolLM and others use)", file.path());
  }
  ArchitectureMetadata metadata(file, architecture);
  const Dimensions dimensions = read_dimensions(file, metadata);
  DecoderImport result;
  result.tensors = map_tensors(file, dimensions);
  result.config = decoder_config(file, metadata, dimensions);
  result.generation_config = generation_config(file, dimensions);
  for (const std::string& key : metadata.unused()) {
    result.warnings.push_back({.what = "the metadata key '" + key + "' is not understood",
                               .where = file.path(),
                               .hint = "check that the model does not depend on it"});
  }
  return result;
}

}  // namespace espalier::formats

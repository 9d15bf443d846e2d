#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/nn/decoder_block.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/sdk/model.h"

namespace espalier::nn {

/// A causal language model from a DecoderSpec, with parts of its own where a family has them:
/// embedding, layers, final norm, head.
class ESPALIER_API DecoderModel final : public Model {
 public:
  explicit DecoderModel(DecoderSpec spec, DecoderParts own = {});
  ~DecoderModel() override;

  ModelOutput forward(const ModelInput& input) override;
  Head& head() override;
  ModelParts& parts() override { return parts_; }
  std::vector<Tower> towers() override;
  ModelShape shape() const override;
  void set_block_runner(std::shared_ptr<BlockRunner> runner) override;
  void set_compute_dtype(at::ScalarType dtype) override;
  /// nullptr where keys go stale as the text grows (rotary scalings that depend on its length).
  std::unique_ptr<KvCache> make_cache() override;
  void set_training(bool training) override { training_ = training; }
  void set_share_prefixes(bool share) override { share_prefixes_ = share; }
  std::int64_t rows(const ModelInput& input) const override;

 private:
  class LinearHead;
  /// `own_rows` becomes the rows of the text's own tokens where an adapter has added others.
  BatchContext make_context(const ModelInput& input, at::Tensor& own_rows) const;
  at::Tensor make_positions(const ModelInput& input, const TokenLayout& layout,
                            const at::Tensor& own_rows) const;
  /// Sets layout, ids, positions and rows, on the CPU where they are made there.
  void set_tokens(const ModelInput& input, at::Tensor& own_rows, BatchContext& context) const;
  /// Whether a token's hidden states depend on what stands before it alone, and only through
  /// attention.
  bool can_share_prefixes() const;

  DecoderSpec spec_;
  DecoderParts own_;
  ModelParts parts_;
  std::unique_ptr<EmbeddingBlock> embedding_;
  std::vector<std::unique_ptr<Block>> layers_;
  std::unique_ptr<FinalNormBlock> final_norm_;
  std::unique_ptr<LinearHead> head_;
  std::shared_ptr<BlockRunner> runner_;
  at::ScalarType compute_dtype_ = at::kFloat;
  bool training_ = false;
  bool share_prefixes_ = false;
};

}  // namespace espalier::nn

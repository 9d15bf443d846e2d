#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "espalier/sdk/tokenizer.h"
#include "text/added_vocabulary/added_vocabulary.h"
#include "text/decoder/decoder.h"
#include "text/model/model.h"
#include "text/normalizer/normalizer.h"
#include "text/post_processor/post_processor.h"
#include "text/pre_tokenizer/pre_tokenizer.h"

namespace espalier::text {

/// Ids of the tokens that play a role; -1 for none.
struct SpecialTokenIds {
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  std::int32_t pad = -1;
  std::int32_t unk = -1;
};

/// The parts of a tokenizer.json; all but the model may be null.
struct TokenizerParts {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<PostProcessor> post_processor;
  std::unique_ptr<Decoder> decoder;
  AddedVocabulary added_vocabulary;
};

/// added tokens -> normalizer -> pre-tokenizer -> model -> post-processor, and the decoder back.
class HfTokenizer final : public Tokenizer {
 public:
  explicit HfTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {}
  /// Before the tokenizer is shared.
  void set_special_token_ids(const SpecialTokenIds& ids) { special_ = ids; }

  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const override;
  Encoding encode_with_offsets(std::string_view text, bool add_special_tokens) const override;
  Encoding encode_pair(std::string_view first, std::string_view second,
                       bool add_special_tokens) const override;
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special_tokens) const override;

  std::int32_t token_to_id(std::string_view token) const override;
  std::string id_to_token(std::int32_t id) const override;
  std::int64_t vocab_size() const override;

  std::int32_t bos_id() const override { return special_.bos; }
  std::int32_t eos_id() const override { return special_.eos; }
  std::int32_t pad_id() const override { return special_.pad; }
  std::int32_t unk_id() const override { return special_.unk; }

 private:
  struct Scratch {
    std::unique_ptr<ModelScratch> model;
    std::vector<TokenSpan> tokens;
  };
  class BorrowedScratch;

  /// Everything before the model. `text` is valid UTF-8.
  void pre_tokenize(PreTokenizedText& text) const;
  /// Without the post-processor.
  Encoding encode_plain(std::string_view text) const;
  Encoding post_process(std::vector<Encoding> parts, bool add_special_tokens, bool ids_only) const;
  void append_piece(const Piece& piece, const std::vector<std::uint32_t>& char_index,
                    Scratch& scratch, Encoding& encoding) const;

  TokenizerParts parts_;
  SpecialTokenIds special_;
  mutable std::mutex scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> free_scratch_;  // one for each thread at work
};

}  // namespace espalier::text

#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/sdk/tokenizer.h"

/// A token beside the bytes. In a text it is found as it is written; blanks beside it may go.
struct SpecialToken {
  std::int32_t id = 0;
  std::string text;
  bool strips_left = false;
  bool strips_right = false;
};

/// The tokenizer of ByT5 (Xue et al. 2021, arXiv:2105.13626): each byte of UTF-8 is a token, 3
/// after the ids of padding, end of text and unknown. Special tokens in a text are cut out first;
/// of several at one place the longest. `</s>` ends every text that does not end so. Ids, tokens
/// and decoded texts are those of ByT5Tokenizer in transformers 5.
class ByteTokenizer final : public espalier::Tokenizer {
 public:
  static constexpr std::int32_t kPad = 0;
  static constexpr std::int32_t kEnd = 1;
  static constexpr std::int32_t kUnknown = 2;
  static constexpr std::int32_t kFirstByte = 3;
  static constexpr std::int32_t kByteCount = 256;

  /// `specials` have the ids 0 to 2, and others after those of the bytes.
  explicit ByteTokenizer(std::vector<SpecialToken> specials);

  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const override;
  espalier::Encoding encode_with_offsets(std::string_view text,
                                         bool add_special_tokens) const override;
  espalier::Encoding encode_pair(std::string_view first, std::string_view second,
                                 bool add_special_tokens) const override;
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special_tokens) const override;
  std::int32_t token_to_id(std::string_view token) const override;
  std::string id_to_token(std::int32_t id) const override;
  std::int64_t vocab_size() const override { return vocab_size_; }
  std::int32_t bos_id() const override { return -1; }
  std::int32_t eos_id() const override { return kEnd; }
  std::int32_t pad_id() const override { return kPad; }
  std::int32_t unk_id() const override { return kUnknown; }

 private:
  const SpecialToken* special_at(std::string_view text, std::size_t at) const;
  void append_bytes(std::string_view text, std::int64_t first_point,
                    espalier::Encoding& encoding) const;

  std::map<std::int32_t, SpecialToken> specials_;
  std::vector<const SpecialToken*> longest_first_;
  std::int64_t vocab_size_ = 0;
};

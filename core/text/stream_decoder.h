#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/sdk/tokenizer.h"

namespace espalier::text {

/// Text of tokens that come one by one. A decoder may look at neighbours (the first space of a text
/// goes, a character may need several tokens), so each step decodes the last tokens together and
/// gives out what is new. Not thread safe.
class StreamDecoder {
 public:
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

  /// What token `id` adds; "" while a character is not complete.
  std::string push(std::int32_t id);
  /// What is left at the end, such as the bytes of a character that was never completed.
  std::string finish();

 private:
  std::string decode(std::size_t from) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_tokens_;
  std::vector<std::int32_t> ids_;  ///< those given out last, and those still to be given out
  std::size_t shown_ = 0;          ///< number of the former
  std::string shown_text_;         ///< of the former alone
};

}  // namespace espalier::text

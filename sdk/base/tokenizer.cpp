#include "espalier/sdk/tokenizer.h"

namespace espalier {

// The destructors are out of line, so that each vtable exists once.
Tokenizer::~Tokenizer() = default;

Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second,
                                bool add_special_tokens) const {
  Encoding pair = encode_with_offsets(first, add_special_tokens);
  Encoding more = encode_with_offsets(second, add_special_tokens);
  pair.type_ids.assign(pair.ids.size(), 0);
  pair.type_ids.resize(pair.ids.size() + more.ids.size(), 1);
  pair.ids.insert(pair.ids.end(), more.ids.begin(), more.ids.end());
  pair.tokens.insert(pair.tokens.end(), more.tokens.begin(), more.tokens.end());
  pair.offsets.insert(pair.offsets.end(), more.offsets.begin(), more.offsets.end());
  return pair;
}

ChatTemplate::~ChatTemplate() = default;

}  // namespace espalier

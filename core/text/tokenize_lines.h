#pragma once

#include <string>
#include <string_view>

#include "espalier/sdk/tokenizer.h"

namespace espalier::text {

/// One line of `espalier tokenize`: {"text": ...} to {"ids", "tokens", "offsets"}, on one line;
/// with a second text in "pair", "type_ids" as well. `where` names the line in errors.
std::string tokenize_line(const Tokenizer& tokenizer, std::string_view line,
                          bool add_special_tokens, const std::string& where);

/// The other way: {"ids": [...]} to {"text": ...}.
std::string detokenize_line(const Tokenizer& tokenizer, std::string_view line,
                            bool skip_special_tokens, const std::string& where);

/// The same for a reader: tokens with ids, or the text alone.
std::string tokenize_line_readably(const Tokenizer& tokenizer, std::string_view line,
                                   bool add_special_tokens, const std::string& where);
std::string detokenize_line_readably(const Tokenizer& tokenizer, std::string_view line,
                                     bool skip_special_tokens, const std::string& where);

}  // namespace espalier::text

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::text::chat {

enum class TokenType {
  kData,           ///< text outside of tags
  kVariableBegin, kVariableEnd, kBlockBegin, kBlockEnd,
  kName, kString, kInteger, kFloat, kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;  ///< data, name, operator; the value of a string; digits of a number
  std::uint32_t line = 0;
};

/// Splits a template as Jinja does with trim_blocks and lstrip_blocks. Raises TemplateSyntaxError.
std::vector<Token> tokenize_template(std::string_view source);

}  // namespace espalier::text::chat

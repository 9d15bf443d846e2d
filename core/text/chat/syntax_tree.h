#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/chat/item.h"

namespace espalier::text::chat {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using StatementPtr = std::unique_ptr<Statement>;
using Body = std::vector<StatementPtr>;

enum class ExpressionType {
  kConstant, kName, kTuple, kList, kDict, kCondition, kOr, kAnd, kNot, kCompare, kBinary, kNegative,
  kPositive, kConcat, kAttribute, kElement, kSlice, kCall, kFilter, kTest, kNamespaceAttribute,
};

/// Arguments of a call, filter or test.
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional;  ///< *args
  ExpressionPtr more_named;       ///< **kwargs
};

struct Expression {
  ExpressionType type = ExpressionType::kConstant;
  std::uint32_t line = 0;
  Item value;        ///< of a constant
  std::string name;  ///< of a variable, attribute, filter, test, operator
  /// Operands in order. Condition: test, then, else (may be null). Dict: keys and values in turn.
  /// Slice: start, stop, step (each may be null). Filter: its input, null for a block's.
  std::vector<ExpressionPtr> children;
  std::vector<std::string> operators;  ///< of a comparison, one fewer than children
  CallArguments arguments;
};

enum class StatementType {
  kData, kOutput, kFor, kIf, kSet, kSetBlock, kMacro, kCallBlock, kFilterBlock, kWith, kGeneration,
  kScope, kBreak, kContinue,
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  ///< null for none
};

struct Statement {
  StatementType type = StatementType::kData;
  std::uint32_t line = 0;
  std::string text;  ///< data; name of a macro
  ExpressionPtr target;
  /// Output, iterable, condition, value, call or filter.
  ExpressionPtr expression;
  ExpressionPtr filter;  ///< `if` of a loop; filter of a set block
  bool recursive = false;
  Body body;
  /// Else branch of a loop; of an `if` too, where an `elif` is an `if` inside of it.
  Body otherwise;
  std::vector<Parameter> parameters;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;  ///< of `with`
  /// Whether a macro's body mentions these.
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct ParsedTemplate {
  Body body;
  bool has_generation_blocks = false;
};

/// Raises TemplateSyntaxError with the line.
ParsedTemplate parse_template(std::string_view source);

}  // namespace espalier::text::chat

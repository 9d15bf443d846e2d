#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <system_error>

#include "text/chat/operations.h"
#include "text/chat/parser.h"

namespace espalier::text::chat {

void Parser::fail_here(std::string message) const {
  throw TemplateFailure{"TemplateSyntaxError", std::move(message), current().line};
}

std::string Parser::describe_current() const {
  switch (current().type) {
    case TokenType::kEnd: return "end of template";
    case TokenType::kVariableEnd: return "end of print statement";
    case TokenType::kBlockEnd: return "end of statement block";
    case TokenType::kVariableBegin: return "begin of print statement";
    case TokenType::kBlockBegin: return "begin of statement block";
    case TokenType::kData: return "template data";
    default: return current().text;
  }
}

bool Parser::skip_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  next();
  return true;
}

void Parser::expect_operator(std::string_view text) {
  if (!skip_operator(text))
    fail_here("expected token '" + std::string(text) + "', got " + repr_string(describe_current()));
}

std::string Parser::expect_name() {
  if (!is(TokenType::kName))
    fail_here("expected token 'name', got " + repr_string(describe_current()));
  return next().text;
}

void Parser::expect_name(std::string_view text) {
  if (!skip_name(text))
    fail_here("expected token '" + std::string(text) + "', got " + repr_string(describe_current()));
}

void Parser::expect_type(TokenType type, std::string_view phrase) {
  if (!is(type))
    fail_here("expected token '" + std::string(phrase) + "', got " +
              repr_string(describe_current()));
  next();
}

ExpressionPtr Parser::make(ExpressionType type) const {
  auto node = std::make_unique<Expression>();
  node->type = type;
  node->line = current().line;
  return node;
}

ExpressionPtr Parser::binary(ExpressionType type, ExpressionPtr left, ExpressionPtr right,
                             std::uint32_t line) const {
  ExpressionPtr node = make(type);
  node->line = line;
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return node;
}

ExpressionPtr Parser::parse_expression(bool with_condition) {
  const Level level(*this);
  return with_condition ? parse_condition() : parse_or();
}

ExpressionPtr Parser::parse_condition() {
  ExpressionPtr then = parse_or();
  for (int chained = 0; is_name("if"); ++chained) {
    if (chained > kDeepestNesting) fail_here("the template is nested too deeply");
    ExpressionPtr node = make(ExpressionType::kCondition);
    next();
    node->children.push_back(parse_or());
    node->children.push_back(std::move(then));
    const Level level(*this);
    node->children.push_back(skip_name("else") ? parse_condition() : nullptr);
    then = std::move(node);
  }
  return then;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr node = make(ExpressionType::kOr);
  node->children.push_back(parse_and());
  while (skip_name("or")) node->children.push_back(parse_and());
  return node->children.size() == 1 ? std::move(node->children[0]) : std::move(node);
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr node = make(ExpressionType::kAnd);
  node->children.push_back(parse_not());
  while (skip_name("and")) node->children.push_back(parse_not());
  return node->children.size() == 1 ? std::move(node->children[0]) : std::move(node);
}

ExpressionPtr Parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Level level(*this);
  ExpressionPtr node = make(ExpressionType::kNot);
  next();
  node->children.push_back(parse_not());
  return node;
}

ExpressionPtr Parser::parse_compare() {
  ExpressionPtr node = make(ExpressionType::kCompare);
  node->children.push_back(parse_sum());
  while (true) {
    constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    const bool compares = is(TokenType::kOperator) &&
                          std::find(std::begin(kOperators), std::end(kOperators), current().text) !=
                              std::end(kOperators);
    if (compares || is_name("in")) {
      node->operators.push_back(next().text);
    } else if (is_name("not") && look().type == TokenType::kName && look().text == "in") {
      next();
      next();
      node->operators.emplace_back("not in");
    } else {
      break;
    }
    node->children.push_back(parse_sum());
  }
  return node->children.size() == 1 ? std::move(node->children[0]) : std::move(node);
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr node = parse_concat();
  for (int chained = 0; is_operator("+") || is_operator("-"); ++chained) {
    if (chained > kDeepestNesting * 4) fail_here("the template is nested too deeply");
    const Token token = next();
    node = binary(ExpressionType::kBinary, std::move(node), parse_concat(), token.line);
    node->name = token.text;
  }
  return node;
}

ExpressionPtr Parser::parse_concat() {
  ExpressionPtr node = make(ExpressionType::kConcat);
  node->children.push_back(parse_product());
  while (skip_operator("~")) node->children.push_back(parse_product());
  return node->children.size() == 1 ? std::move(node->children[0]) : std::move(node);
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr node = parse_power();
  for (int chained = 0;
       is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%"); ++chained) {
    if (chained > kDeepestNesting * 4) fail_here("the template is nested too deeply");
    const Token token = next();
    node = binary(ExpressionType::kBinary, std::move(node), parse_power(), token.line);
    node->name = token.text;
  }
  return node;
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr node = parse_unary();
  for (int chained = 0; is_operator("**"); ++chained) {
    if (chained > kDeepestNesting) fail_here("the template is nested too deeply");
    const Token token = next();
    node = binary(ExpressionType::kBinary, std::move(node), parse_unary(), token.line);
    node->name = token.text;
  }
  return node;
}

ExpressionPtr Parser::parse_unary(bool with_filter) {
  const Level level(*this);
  ExpressionPtr node;
  if (is_operator("-") || is_operator("+")) {
    node = make(is_operator("-") ? ExpressionType::kNegative : ExpressionType::kPositive);
    next();
    node->children.push_back(parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_primary(bool with_namespace) {
  const Level level(*this);
  switch (current().type) {
    case TokenType::kName: return parse_name(with_namespace);
    case TokenType::kInteger:
    case TokenType::kFloat: return parse_number();
    case TokenType::kString: {
      ExpressionPtr node = make(ExpressionType::kConstant);
      std::string text;
      while (is(TokenType::kString)) text += next().text;
      node->value = std::move(text);
      return node;
    }
    default: break;
  }
  if (skip_operator("(")) {
    ExpressionPtr node = parse_tuple({.parentheses = true});
    expect_operator(")");
    return node;
  }
  if (is_operator("[")) return parse_list();
  if (is_operator("{")) return parse_dict();
  fail_here("unexpected " + repr_string(describe_current()));
}

ExpressionPtr Parser::parse_name(bool with_namespace) {
  ExpressionPtr node = make(ExpressionType::kConstant);
  const std::string name = next().text;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->value = name == "true" || name == "True";
    return node;
  }
  if (name == "none" || name == "None") return node;
  saw_caller_ |= name == "caller";
  saw_varargs_ |= name == "varargs";
  saw_kwargs_ |= name == "kwargs";
  node->name = name;
  node->type = ExpressionType::kName;
  if (with_namespace && skip_operator(".")) {
    node->type = ExpressionType::kNamespaceAttribute;
    node->value = expect_name();
  }
  return node;
}

ExpressionPtr Parser::parse_number() {
  ExpressionPtr node = make(ExpressionType::kConstant);
  const Token token = next();
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  if (token.type == TokenType::kFloat) {
    double value = 0;
    if (std::from_chars(begin, end, value).ec == std::errc::result_out_of_range)
      value = std::strtod(std::string(token.text).c_str(), nullptr);  // infinite, or next to zero
    node->value = value;
    return node;
  }
  int base = 10;
  if (token.text.size() > 2 && token.text[0] == '0') {
    const char kind = token.text[1];
    base = kind == 'x' || kind == 'X'   ? 16
           : kind == 'o' || kind == 'O' ? 8
           : kind == 'b' || kind == 'B' ? 2
                                        : 10;
    if (base != 10) begin += 2;
  }
  std::int64_t value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value, base);
  if (error == std::errc::result_out_of_range) fail_overflow(token.line);
  if (error != std::errc() || stop != end) fail_here("a number is malformed: " + token.text);
  node->value = value;
  return node;
}

bool Parser::at_tuple_end() const {
  return is(TokenType::kVariableEnd) || is(TokenType::kBlockEnd) || is_operator(")");
}

ExpressionPtr Parser::parse_tuple(const TupleRules& rules) {
  ExpressionPtr tuple = make(ExpressionType::kTuple);
  bool is_tuple = false;
  while (true) {
    if (!tuple->children.empty()) expect_operator(",");
    if (at_tuple_end()) break;
    tuple->children.push_back(rules.simple ? parse_primary(rules.with_namespace)
                                           : parse_expression(rules.with_condition));
    if (!is_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (!tuple->children.empty()) return std::move(tuple->children[0]);
  if (!rules.parentheses)
    fail_here("Expected an expression, got " + repr_string(describe_current()));
  return tuple;
}

ExpressionPtr Parser::parse_list() {
  ExpressionPtr node = make(ExpressionType::kList);
  expect_operator("[");
  while (!is_operator("]")) {
    if (!node->children.empty()) expect_operator(",");
    if (is_operator("]")) break;
    node->children.push_back(parse_expression());
  }
  expect_operator("]");
  return node;
}

ExpressionPtr Parser::parse_dict() {
  ExpressionPtr node = make(ExpressionType::kDict);
  expect_operator("{");
  while (!is_operator("}")) {
    if (!node->children.empty()) expect_operator(",");
    if (is_operator("}")) break;
    node->children.push_back(parse_expression());
    expect_operator(":");
    node->children.push_back(parse_expression());
  }
  expect_operator("}");
  return node;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr node) {
  for (int chained = 0;; ++chained) {
    if (chained > kDeepestNesting) fail_here("the template is nested too deeply");
    if (is_operator(".") || is_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr node) {
  for (int chained = 0;; ++chained) {
    if (chained > kDeepestNesting) fail_here("the template is nested too deeply");
    if (is_operator("|")) {
      node = parse_filter(std::move(node), false);
    } else if (is_name("is")) {
      node = parse_test(std::move(node));
    } else if (is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr node) {
  ExpressionPtr out = make(ExpressionType::kElement);
  if (skip_operator(".")) {
    if (is(TokenType::kName)) {
      out->type = ExpressionType::kAttribute;
      out->name = next().text;
      out->children.push_back(std::move(node));
      return out;
    }
    if (!is(TokenType::kInteger)) fail_here("expected name or number");
    out->children.push_back(std::move(node));
    out->children.push_back(parse_number());
    return out;
  }
  expect_operator("[");
  ExpressionPtr index = make(ExpressionType::kTuple);
  while (!is_operator("]")) {
    if (!index->children.empty()) expect_operator(",");
    index->children.push_back(parse_index());
  }
  expect_operator("]");
  out->children.push_back(std::move(node));
  out->children.push_back(index->children.size() == 1 ? std::move(index->children[0])
                                                      : std::move(index));
  return out;
}

ExpressionPtr Parser::parse_index() {
  ExpressionPtr slice = make(ExpressionType::kSlice);
  slice->children.resize(3);
  const auto part = [&](std::size_t place) {
    if (!is_operator(":") && !is_operator("]") && !is_operator(","))
      slice->children[place] = parse_expression();
  };
  if (!is_operator(":")) {
    ExpressionPtr node = parse_expression();
    if (!is_operator(":")) return node;
    slice->children[0] = std::move(node);
  }
  expect_operator(":");
  part(1);
  if (skip_operator(":")) part(2);
  return slice;
}

ExpressionPtr Parser::parse_call(ExpressionPtr callee) {
  ExpressionPtr node = make(ExpressionType::kCall);
  node->children.push_back(std::move(callee));
  node->arguments = parse_arguments();
  return node;
}

CallArguments Parser::parse_arguments() {
  CallArguments out;
  const auto ensure = [&](bool condition) {
    if (!condition) fail_here("invalid syntax for function call expression");
  };
  expect_operator("(");
  for (bool first = true; !is_operator(")"); first = false) {
    if (!first) {
      expect_operator(",");
      if (is_operator(")")) break;
    }
    if (skip_operator("*")) {
      ensure(!out.more_positional && !out.more_named);
      out.more_positional = parse_expression();
    } else if (skip_operator("**")) {
      ensure(!out.more_named);
      out.more_named = parse_expression();
    } else if (is(TokenType::kName) && look().type == TokenType::kOperator && look().text == "=") {
      ensure(!out.more_named);
      std::string name = next().text;
      next();
      out.named.emplace_back(std::move(name), parse_expression());
    } else {
      ensure(!out.more_positional && !out.more_named && out.named.empty());
      out.positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return out;
}

ExpressionPtr Parser::parse_filter(ExpressionPtr input, bool inline_start) {
  for (int chained = 0; inline_start || is_operator("|"); ++chained) {
    if (chained > kDeepestNesting) fail_here("the template is nested too deeply");
    if (!inline_start) next();
    inline_start = false;
    ExpressionPtr node = make(ExpressionType::kFilter);
    node->name = expect_name();
    while (skip_operator(".")) node->name += "." + expect_name();
    if (is_operator("(")) node->arguments = parse_arguments();
    node->children.push_back(std::move(input));
    input = std::move(node);
  }
  return input;
}

ExpressionPtr Parser::parse_test(ExpressionPtr node) {
  ExpressionPtr test = make(ExpressionType::kTest);
  next();
  const bool negated = skip_name("not");
  test->name = expect_name();
  while (skip_operator(".")) test->name += "." + expect_name();
  test->children.push_back(std::move(node));
  const bool literal = is(TokenType::kName) || is(TokenType::kString) || is(TokenType::kInteger) ||
                       is(TokenType::kFloat) || is_operator("[") || is_operator("{");
  if (is_operator("(")) {
    test->arguments = parse_arguments();
  } else if (literal && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail_here("You cannot chain multiple tests with is");
    test->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  if (!negated) return test;
  ExpressionPtr inverted = make(ExpressionType::kNot);
  inverted->children.push_back(std::move(test));
  return inverted;
}

void Parser::check_target(const Expression& target) const {
  switch (target.type) {
    case ExpressionType::kName:
    case ExpressionType::kNamespaceAttribute: return;
    case ExpressionType::kTuple:
      for (const ExpressionPtr& part : target.children) check_target(*part);
      return;
    default: fail_here("can't assign to an expression");
  }
}

ExpressionPtr Parser::parse_target(bool with_namespace) {
  ExpressionPtr target = parse_tuple({.simple = true, .with_namespace = with_namespace});
  check_target(*target);
  return target;
}

}  // namespace espalier::text::chat

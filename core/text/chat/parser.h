#pragma once

#include <initializer_list>

#include "text/chat/limits.h"
#include "text/chat/syntax_tree.h"
#include "text/chat/token.h"

namespace espalier::text::chat {

/// Recursive descent over the tokens of a template, with Jinja's grammar. Expressions are in
/// expression_parser.cpp, statements in statement_parser.cpp.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  ParsedTemplate parse();

 private:
  using Names = std::initializer_list<std::string_view>;

  /// Counts nesting, so that hostile input can't exhaust the stack.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kDeepestNesting)
        parser_.fail_here("the template is nested too deeply");
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --parser_.depth_; }

   private:
    Parser& parser_;
  };

  [[noreturn]] void fail_here(std::string message) const;
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is(TokenType type) const { return current().type == type; }
  bool is_operator(std::string_view text) const {
    return is(TokenType::kOperator) && current().text == text;
  }
  bool is_name(std::string_view text) const {
    return is(TokenType::kName) && current().text == text;
  }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name();
  void expect_name(std::string_view text);
  void expect_type(TokenType type, std::string_view phrase);
  std::string describe_current() const;

  ExpressionPtr make(ExpressionType type) const;
  ExpressionPtr binary(ExpressionType type, ExpressionPtr left, ExpressionPtr right,
                       std::uint32_t line) const;
  ExpressionPtr parse_expression(bool with_condition = true);
  ExpressionPtr parse_condition();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter = true);
  ExpressionPtr parse_primary(bool with_namespace = false);
  ExpressionPtr parse_number();
  ExpressionPtr parse_name(bool with_namespace);
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_index();
  ExpressionPtr parse_call(ExpressionPtr callee);
  CallArguments parse_arguments();
  ExpressionPtr parse_filter(ExpressionPtr input, bool inline_start);
  ExpressionPtr parse_test(ExpressionPtr node);

  struct TupleRules {
    bool simple = false;  ///< names and literals only
    bool with_condition = true;
    bool with_namespace = false;
    bool parentheses = false;
  };
  ExpressionPtr parse_tuple(const TupleRules& rules);
  bool at_tuple_end() const;
  ExpressionPtr parse_target(bool with_namespace);
  void check_target(const Expression& target) const;

  Body parse_until(Names ends, std::string_view inside);
  Body parse_statements(Names ends, std::string_view inside);
  StatementPtr parse_statement();
  StatementPtr start(StatementType type) const;
  StatementPtr parse_for();
  StatementPtr parse_if();
  StatementPtr parse_set();
  StatementPtr parse_macro();
  /// Up to the block tag `end`; notes what the body uses of the arguments of a call.
  void parse_macro_body(Statement& macro, std::string_view end, std::string_view inside);
  StatementPtr parse_call_block();
  StatementPtr parse_filter_block();
  StatementPtr parse_with();
  StatementPtr parse_generation();
  StatementPtr parse_autoescape();
  StatementPtr parse_loop_control(StatementType type);
  void parse_signature(Statement& statement);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  ///< around this place, within the innermost macro
  bool has_generation_blocks_ = false;
  bool saw_caller_ = false;
  bool saw_varargs_ = false;
  bool saw_kwargs_ = false;
};

}  // namespace espalier::text::chat

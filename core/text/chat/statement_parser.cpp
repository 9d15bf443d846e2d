#include <algorithm>

#include "text/chat/parser.h"

namespace espalier::text::chat {

ParsedTemplate parse_template(std::string_view source) {
  return Parser(tokenize_template(source)).parse();
}

ParsedTemplate Parser::parse() {
  ParsedTemplate out;
  out.body = parse_until({}, "");
  out.has_generation_blocks = has_generation_blocks_;
  return out;
}

StatementPtr Parser::start(StatementType type) const {
  auto statement = std::make_unique<Statement>();
  statement->type = type;
  statement->line = current().line;
  return statement;
}

/// Statements up to a block tag with one of the names `ends`, which stays the current token.
Body Parser::parse_until(Names ends, std::string_view inside) {
  const Level level(*this);
  Body body;
  while (!is(TokenType::kEnd)) {
    if (is(TokenType::kData)) {
      StatementPtr data = start(StatementType::kData);
      data->text = next().text;
      body.push_back(std::move(data));
    } else if (is(TokenType::kVariableBegin)) {
      StatementPtr output = start(StatementType::kOutput);
      next();
      output->expression = parse_tuple({});
      expect_type(TokenType::kVariableEnd, "end of print statement");
      body.push_back(std::move(output));
    } else {
      expect_type(TokenType::kBlockBegin, "begin of statement block");
      for (const std::string_view end : ends)
        if (is_name(end)) return body;
      body.push_back(parse_statement());
      expect_type(TokenType::kBlockEnd, "end of statement block");
    }
  }
  if (ends.size() != 0)
    fail_here("Unexpected end of template. Jinja was looking for the end of the '" +
              std::string(inside) + "' block");
  return body;
}

Body Parser::parse_statements(Names ends, std::string_view inside) {
  skip_operator(":");  // the form of old templates
  expect_type(TokenType::kBlockEnd, "end of statement block");
  return parse_until(ends, inside);
}

StatementPtr Parser::parse_statement() {
  if (!is(TokenType::kName)) fail_here("tag name expected");
  const std::string& name = current().text;
  if (name == "for") return parse_for();
  if (name == "if") return parse_if();
  if (name == "set") return parse_set();
  if (name == "macro") return parse_macro();
  if (name == "call") return parse_call_block();
  if (name == "filter") return parse_filter_block();
  if (name == "with") return parse_with();
  if (name == "generation") return parse_generation();
  if (name == "autoescape") return parse_autoescape();
  if (name == "break") return parse_loop_control(StatementType::kBreak);
  if (name == "continue") return parse_loop_control(StatementType::kContinue);
  if (name == "print") {
    StatementPtr output = start(StatementType::kOutput);
    next();
    output->expression = make(ExpressionType::kConcat);
    while (!is(TokenType::kBlockEnd)) {
      if (!output->expression->children.empty()) expect_operator(",");
      output->expression->children.push_back(parse_expression());
    }
    return output;
  }
  if (name == "include" || name == "import" || name == "from" || name == "extends" ||
      name == "block")
    fail_here("a chat template stands alone; it can't use the tag '" + name + "'");
  fail_here("Encountered unknown tag '" + name + "'.");
}

StatementPtr Parser::parse_for() {
  StatementPtr loop = start(StatementType::kFor);
  next();
  loop->target = parse_target(false);
  expect_name("in");
  loop->expression = parse_tuple({.with_condition = false});
  if (skip_name("if")) loop->filter = parse_expression();
  loop->recursive = skip_name("recursive");
  ++loops_;
  loop->body = parse_statements({"endfor", "else"}, "for");
  --loops_;
  if (next().text == "else") {
    loop->otherwise = parse_statements({"endfor"}, "for");
    next();
  }
  return loop;
}

StatementPtr Parser::parse_if() {
  const Level level(*this);
  StatementPtr out = start(StatementType::kIf);
  Statement* branch = out.get();
  int branches = 0;
  next();
  while (true) {
    branch->expression = parse_tuple({.with_condition = false});
    branch->body = parse_statements({"elif", "else", "endif"}, "if");
    const std::string name = next().text;
    if (name == "elif") {
      if (++branches > kMostBranches) fail_here("an if has too many branches");
      branch->otherwise.push_back(start(StatementType::kIf));
      branch = branch->otherwise.back().get();
      continue;
    }
    if (name == "else") {
      branch->otherwise = parse_statements({"endif"}, "if");
      next();
    }
    return out;
  }
}

StatementPtr Parser::parse_set() {
  StatementPtr out = start(StatementType::kSet);
  next();
  out->target = parse_target(true);
  if (skip_operator("=")) {
    out->expression = parse_tuple({});
    return out;
  }
  out->type = StatementType::kSetBlock;
  out->filter = parse_filter(nullptr, false);
  out->body = parse_statements({"endset"}, "set");
  next();
  return out;
}

void Parser::parse_signature(Statement& statement) {
  expect_operator("(");
  while (!is_operator(")")) {
    if (!statement.parameters.empty()) expect_operator(",");
    Parameter parameter;
    parameter.name = expect_name();
    if (skip_operator("=")) {
      parameter.fallback = parse_expression();
    } else if (!statement.parameters.empty() && statement.parameters.back().fallback) {
      fail_here("non-default argument follows default argument");
    }
    statement.parameters.push_back(std::move(parameter));
  }
  expect_operator(")");
}

StatementPtr Parser::parse_macro() {
  StatementPtr macro = start(StatementType::kMacro);
  next();
  macro->text = expect_name();
  parse_signature(*macro);
  parse_macro_body(*macro, "endmacro", "macro");
  return macro;
}

void Parser::parse_macro_body(Statement& macro, std::string_view end, std::string_view inside) {
  const bool outer[] = {saw_caller_, saw_varargs_, saw_kwargs_};
  const int outer_loops = std::exchange(loops_, 0);
  saw_caller_ = saw_varargs_ = saw_kwargs_ = false;
  macro.body = parse_statements({end}, inside);
  next();
  const auto is_parameter = [&](std::string_view name) {
    return std::any_of(macro.parameters.begin(), macro.parameters.end(),
                       [&](const Parameter& parameter) { return parameter.name == name; });
  };
  macro.uses_caller = saw_caller_;
  macro.uses_varargs = saw_varargs_ && !is_parameter("varargs");
  macro.uses_kwargs = saw_kwargs_ && !is_parameter("kwargs");
  saw_caller_ |= outer[0];
  saw_varargs_ |= outer[1];
  saw_kwargs_ |= outer[2];
  loops_ = outer_loops;
}

StatementPtr Parser::parse_call_block() {
  StatementPtr call = start(StatementType::kCallBlock);
  next();
  if (is_operator("(")) parse_signature(*call);
  call->expression = parse_expression();
  if (call->expression->type != ExpressionType::kCall) fail_here("expected call");
  parse_macro_body(*call, "endcall", "call");
  return call;
}

StatementPtr Parser::parse_filter_block() {
  StatementPtr block = start(StatementType::kFilterBlock);
  next();
  block->expression = parse_filter(nullptr, true);
  block->body = parse_statements({"endfilter"}, "filter");
  next();
  return block;
}

StatementPtr Parser::parse_with() {
  StatementPtr with = start(StatementType::kWith);
  next();
  while (!is(TokenType::kBlockEnd)) {
    if (!with->assignments.empty()) expect_operator(",");
    ExpressionPtr target = parse_target(false);
    expect_operator("=");
    with->assignments.emplace_back(std::move(target), parse_expression());
  }
  with->body = parse_statements({"endwith"}, "with");
  next();
  return with;
}

StatementPtr Parser::parse_generation() {
  StatementPtr block = start(StatementType::kGeneration);
  next();
  has_generation_blocks_ = true;
  const int outer_loops = std::exchange(loops_, 0);
  block->body = parse_statements({"endgeneration"}, "generation");
  next();
  loops_ = outer_loops;
  return block;
}

StatementPtr Parser::parse_autoescape() {
  StatementPtr block = start(StatementType::kScope);
  next();
  parse_expression();
  block->body = parse_statements({"endautoescape"}, "autoescape");
  next();
  return block;
}

StatementPtr Parser::parse_loop_control(StatementType type) {
  if (loops_ == 0) fail_here("'" + current().text + "' outside loop");
  StatementPtr statement = start(type);
  next();
  return statement;
}

}  // namespace espalier::text::chat

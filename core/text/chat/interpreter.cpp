#include "text/chat/interpreter.h"

#include <algorithm>

#include "espalier/base/utf8.h"
#include "text/chat/loop.h"
#include "text/chat/operations.h"

namespace espalier::text::chat {

void Interpreter::Scope::set(const std::string& name, Item value) {
  for (auto& [known, old] : variables) {
    if (known != name) continue;
    old = std::move(value);
    return;
  }
  variables.emplace_back(name, std::move(value));
}

const Item* Interpreter::Scope::find(const std::string& name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer.get())
    for (const auto& [known, value] : scope->variables)
      if (known == name) return &value;
  return nullptr;
}

class Interpreter::Entered {
 public:
  /// A new scope inside of `outer`.
  Entered(Interpreter& owner, ScopePtr outer) : owner_(owner), before_(owner.scope_) {
    owner_.scope_ = std::make_shared<Scope>();
    owner_.scope_->outer = std::move(outer);
  }
  explicit Entered(Interpreter& owner) : Entered(owner, owner.scope_) {}
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  ~Entered() { owner_.scope_ = before_; }

 private:
  Interpreter& owner_;
  ScopePtr before_;
};

class Interpreter::Captured {
 public:
  explicit Captured(Interpreter& owner) : owner_(owner), before_(owner.writer_) {
    owner_.writer_ = &text_;
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  ~Captured() { owner_.writer_ = before_; }
  std::string take() { return std::move(text_); }

 private:
  Interpreter& owner_;
  std::string* before_;
  std::string text_;
};

class Interpreter::CallLevel {
 public:
  explicit CallLevel(Interpreter& owner) : owner_(owner) {
    if (++owner_.calls_ > kDeepestCalls) {
      --owner_.calls_;
      fail("RecursionError", "maximum recursion depth exceeded");
    }
  }
  CallLevel(const CallLevel&) = delete;
  CallLevel& operator=(const CallLevel&) = delete;
  ~CallLevel() { --owner_.calls_; }

 private:
  Interpreter& owner_;
};

Interpreter::~Interpreter() {
  for (const auto& weak : captured_scopes_)
    if (const ScopePtr scope = weak.lock()) scope->variables.clear();
  for (const auto& [address, space] : namespaces_) space.as<Namespace>().attributes.entries.clear();
  globals_->variables.clear();
}

std::string Interpreter::render() {
  try {
    const Entered entered(*this);
    captured_scopes_.push_back(scope_);
    run_body(parsed_.body);
  } catch (TemplateFailure& failure) {
    if (failure.line == 0) failure.line = line_;
    throw;
  }
  return output_;
}

void Interpreter::write(std::string_view text) {
  *writer_ += text;
  Meter::charge(1 + text.size() / 64);
  if (writer_->size() > kMostOutputBytes) Meter::charge_bytes(writer_->size());
}

Interpreter::Flow Interpreter::run_body(const Body& body) {
  for (const StatementPtr& statement : body) {
    const Flow flow = run(*statement);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run(const Statement& statement) {
  Meter::charge();
  line_ = statement.line;
  switch (statement.type) {
    case StatementType::kData: write(statement.text); break;
    case StatementType::kOutput: write(to_str(evaluate(*statement.expression))); break;
    case StatementType::kFor: return run_for(statement);
    case StatementType::kIf:
      return run_body(truth(evaluate(*statement.expression)) ? statement.body
                                                             : statement.otherwise);
    case StatementType::kSet: assign(*statement.target, evaluate(*statement.expression)); break;
    case StatementType::kSetBlock: run_set_block(statement); break;
    case StatementType::kMacro:
      scope_->set(statement.text, make_macro(statement, statement.text));
      break;
    case StatementType::kCallBlock: run_call_block(statement); break;
    case StatementType::kFilterBlock: {
      const Item input = captured_body(statement.body);
      write(to_str(evaluate_filter(*statement.expression, &input)));
      break;
    }
    case StatementType::kWith: run_with(statement); break;
    case StatementType::kGeneration: run_generation(statement); break;
    case StatementType::kScope: {
      const Entered entered(*this);
      return run_body(statement.body);
    }
    case StatementType::kBreak: return Flow::kBreak;
    case StatementType::kContinue: return Flow::kContinue;
  }
  return Flow::kNormal;
}

std::string Interpreter::captured_body(const Body& body) {
  const Entered entered(*this);
  Captured captured(*this);
  run_body(body);
  return captured.take();
}

Interpreter::Flow Interpreter::run_for(const Statement& statement) {
  const Item iterable = evaluate(*statement.expression);
  if (!statement.recursive) return loop_over(statement, iterable, 0);
  std::string text;
  {
    Captured captured(*this);
    loop_over(statement, iterable, 0);
    text = captured.take();
  }
  write(text);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::loop_over(const Statement& statement, const Item& iterable,
                                         std::int64_t depth0) {
  const auto loop = std::make_shared<Loop>(iterable);
  loop->depth0 = depth0;
  if (statement.filter) {
    // Of an item at a time, so that it sees what the body has changed.
    loop->accepts = [this, &statement, outer = scope_](const Item& item) {
      const Entered entered(*this, outer);
      assign(*statement.target, item);
      return truth(evaluate(*statement.filter));
    };
  }
  if (statement.recursive) {
    loop->recurse = [this, &statement, outer = scope_](const Item& items, std::int64_t depth) {
      const CallLevel level(*this);
      const Entered entered(*this, outer);
      Captured captured(*this);
      loop_over(statement, items, depth);
      return Item(captured.take());
    };
  }
  bool reached_end = false;  // of the body, once
  for (std::size_t i = 0; loop->reach(i); ++i) {
    Meter::charge();
    loop->index0 = i;
    const Entered entered(*this);
    scope_->set("loop", Item(loop));
    assign(*statement.target, loop->items[i]);
    const Flow flow = run_body(statement.body);
    if (flow == Flow::kBreak) break;
    reached_end |= flow == Flow::kNormal;
  }
  // So it is in Jinja: without such an end, the else branch runs as if there had been no item.
  if (reached_end) return Flow::kNormal;
  const Entered entered(*this);
  return run_body(statement.otherwise);
}

void Interpreter::run_set_block(const Statement& statement) {
  Item value = captured_body(statement.body);
  if (statement.filter) value = evaluate_filter(*statement.filter, &value);
  assign(*statement.target, value);
}

void Interpreter::run_call_block(const Statement& statement) {
  const Expression& expression = *statement.expression;
  const Item callee = evaluate(*expression.children[0]);
  Arguments arguments = evaluate_arguments(expression.arguments);
  arguments.named.emplace_back("caller", make_macro(statement, ""));
  const CallLevel level(*this);
  write(to_str(call(callee, arguments)));
}

void Interpreter::run_with(const Statement& statement) {
  Items values;
  for (const auto& [target, expression] : statement.assignments)
    values.push_back(evaluate(*expression));
  const Entered entered(*this);
  for (std::size_t i = 0; i < values.size(); ++i)
    assign(*statement.assignments[i].first, values[i]);
  run_body(statement.body);
}

void Interpreter::run_generation(const Statement& statement) {
  const std::string text = captured_body(statement.body);
  // The place is that of the finished text, also where a macro or a set block renders this.
  counted_code_points_ += static_cast<std::int64_t>(
      count_code_points(std::string_view(output_).substr(counted_bytes_)));
  counted_bytes_ = output_.size();
  generation_spans_.emplace_back(
      counted_code_points_,
      counted_code_points_ + static_cast<std::int64_t>(count_code_points(text)));
  write(text);
}

void Interpreter::assign(const Expression& target, const Item& value) {
  Meter::charge();
  if (target.type == ExpressionType::kName) {
    scope_->set(target.name, value);
    return;
  }
  if (target.type == ExpressionType::kNamespaceAttribute) {
    const Item space = look_up(target.name);
    if (!space.is(Kind::kNamespace))
      fail("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
    if (value.identity() != nullptr) namespaces_.emplace(space.identity(), space);
    space.as<Namespace>().attributes.set(target.value, value);
    return;
  }
  if (value.is_number() || value.is_none())
    fail("TypeError", "cannot unpack non-iterable " + type_name(value) + " object");
  const Items parts = iterate(value);
  const std::size_t wanted = target.children.size();
  if (parts.size() > wanted)
    fail("ValueError", "too many values to unpack (expected " + std::to_string(wanted) + ")");
  if (parts.size() < wanted)
    fail("ValueError", "not enough values to unpack (expected " + std::to_string(wanted) +
                           ", got " + std::to_string(parts.size()) + ")");
  for (std::size_t i = 0; i < wanted; ++i) assign(*target.children[i], parts[i]);
}

Item Interpreter::make_macro(const Statement& statement, const std::string& name) {
  captured_scopes_.push_back(scope_);
  auto macro = std::make_shared<Function>(
      name,
      [this, &statement, name, definition = scope_](const Arguments& arguments) {
        return run_macro(statement, name, definition, arguments);
      },
      Kind::kMacro);
  Items names;
  for (const Parameter& parameter : statement.parameters) names.emplace_back(parameter.name);
  macro->attributes = {{"name", Item(name)},
                       {"arguments", make_tuple(std::move(names))},
                       {"caller", Item(statement.uses_caller)},
                       {"catch_kwargs", Item(statement.uses_kwargs)},
                       {"catch_varargs", Item(statement.uses_varargs)}};
  return macro;
}

Item Interpreter::run_macro(const Statement& statement, const std::string& name,
                            const ScopePtr& definition, const Arguments& arguments) {
  const CallLevel level(*this);
  const Entered entered(*this, definition);
  bind_parameters(statement, name, arguments);
  Captured captured(*this);
  run_body(statement.body);
  return captured.take();
}

void Interpreter::bind_parameters(const Statement& statement, const std::string& name,
                                  const Arguments& arguments) {
  std::vector<std::pair<std::string, Item>> named = arguments.named;
  const auto take = [&](const std::string& key) -> std::optional<Item> {
    for (auto it = named.begin(); it != named.end(); ++it) {
      if (it->first != key) continue;
      Item value = it->second;
      named.erase(it);
      return value;
    }
    return std::nullopt;
  };
  const std::size_t count = statement.parameters.size();
  std::vector<const Parameter*> missing;
  bool explicit_caller = false;
  for (std::size_t i = 0; i < count; ++i) {
    const Parameter& parameter = statement.parameters[i];
    explicit_caller |= parameter.name == "caller";
    const auto named_value = i < arguments.positional.size() ? std::nullopt : take(parameter.name);
    if (i < arguments.positional.size()) {
      scope_->set(parameter.name, arguments.positional[i]);
    } else if (named_value) {
      scope_->set(parameter.name, *named_value);
    } else {
      scope_->set(parameter.name,
                  parameter.fallback ? make_undefined(repr_string(parameter.name) + " is undefined")
                                     : make_undefined("parameter " + repr_string(parameter.name) +
                                                      " was not provided"));
      if (parameter.fallback) missing.push_back(&parameter);
    }
  }
  if (statement.uses_caller && !explicit_caller) {
    const auto caller = take("caller");
    scope_->set("caller",
                caller && !caller->is_none() ? *caller : make_undefined("No caller defined"));
  }
  if (statement.uses_kwargs) {
    auto rest = std::make_shared<Dict>();
    for (const auto& [key, value] : named) rest->set(Item(key), value);
    scope_->set("kwargs", Item(rest));
  } else if (!named.empty()) {
    fail("TypeError", "macro " + repr_string(name) + " takes no keyword argument " +
                          repr_string(named.front().first));
  }
  const std::size_t bound = std::min(count, arguments.positional.size());
  const auto surplus = arguments.positional.begin() + static_cast<std::ptrdiff_t>(bound);
  if (statement.uses_varargs) {
    scope_->set("varargs", make_tuple(Items(surplus, arguments.positional.end())));
  } else if (surplus != arguments.positional.end()) {
    fail("TypeError", "macro " + repr_string(name) + " takes not more than " +
                          std::to_string(count) + " argument(s)");
  }
  // In order, and with all the parameters in sight: those that come later are undefined so far.
  for (const Parameter* parameter : missing)
    scope_->set(parameter->name, evaluate(*parameter->fallback));
}

}  // namespace espalier::text::chat

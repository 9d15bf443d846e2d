// Expressions.
#include <algorithm>

#include "text/chat/interpreter.h"
#include "text/chat/operations.h"

namespace espalier::text::chat {

Item Interpreter::look_up(const std::string& name) const {
  if (const Item* found = scope_->find(name)) return *found;
  if (auto global = find_global(name)) return *std::move(global);
  return make_undefined(repr_string(name) + " is undefined");
}

Item Interpreter::evaluate(const Expression& expression) {
  Meter::charge();
  const auto child = [&](std::size_t place) { return evaluate(*expression.children[place]); };
  switch (expression.type) {
    case ExpressionType::kConstant: return expression.value;
    case ExpressionType::kName: return look_up(expression.name);
    case ExpressionType::kNamespaceAttribute: return Item();  // a target only
    case ExpressionType::kTuple:
    case ExpressionType::kList:
    case ExpressionType::kDict: return evaluate_container(expression);
    case ExpressionType::kCondition: return evaluate_condition(expression);
    case ExpressionType::kOr:
    case ExpressionType::kAnd: {
      Item value;
      for (const ExpressionPtr& part : expression.children) {
        value = evaluate(*part);
        if (truth(value) == (expression.type == ExpressionType::kOr)) break;
      }
      return value;
    }
    case ExpressionType::kNot: return !truth(child(0));
    case ExpressionType::kCompare: return evaluate_compare(expression);
    case ExpressionType::kBinary: {
      const Item left = child(0);
      return apply_operator(expression.name, left, child(1));
    }
    case ExpressionType::kNegative: return negate(child(0));
    case ExpressionType::kPositive: {
      Item value = child(0);
      if (value.is_undefined()) fail_undefined(value);
      if (!value.is_number())
        fail("TypeError", "bad operand type for unary +: '" + type_name(value) + "'");
      return value.is(Kind::kBool) ? Item(value.as_int()) : value;
    }
    case ExpressionType::kConcat: {
      std::string text;
      for (const ExpressionPtr& part : expression.children) text += to_str(evaluate(*part));
      Meter::charge_bytes(text.size());
      return text;
    }
    case ExpressionType::kAttribute: return get_attribute(child(0), expression.name);
    case ExpressionType::kElement: {
      const Item object = child(0);
      const Expression& index = *expression.children[1];
      if (index.type != ExpressionType::kSlice) return get_element(object, evaluate(index));
      Item bounds[3];
      for (std::size_t i = 0; i < 3; ++i)
        if (index.children[i]) bounds[i] = evaluate(*index.children[i]);
      return get_slice(object, bounds[0], bounds[1], bounds[2]);
    }
    case ExpressionType::kSlice: return {};  // among other indices, which no object here takes
    case ExpressionType::kCall: return evaluate_call(expression);
    case ExpressionType::kFilter: return evaluate_filter(expression, nullptr);
    case ExpressionType::kTest: {
      const Item value = child(0);
      return apply_test(expression.name, value, evaluate_arguments(expression.arguments));
    }
  }
  return {};
}

Item Interpreter::evaluate_condition(const Expression& expression) {
  if (truth(evaluate(*expression.children[0]))) return evaluate(*expression.children[1]);
  if (expression.children[2]) return evaluate(*expression.children[2]);
  return make_undefined("the inline if-expression on line " + std::to_string(expression.line) +
                        " evaluated to false and no else section was defined.");
}

Item Interpreter::evaluate_compare(const Expression& expression) {
  Item left = evaluate(*expression.children[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Item right = evaluate(*expression.children[i + 1]);
    if (!compare(expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Item Interpreter::evaluate_container(const Expression& expression) {
  if (expression.type == ExpressionType::kDict) {
    auto dict = std::make_shared<Dict>();
    for (std::size_t i = 0; i + 1 < expression.children.size(); i += 2) {
      const Item key = evaluate(*expression.children[i]);
      check_hashable(key);
      dict->set(key, evaluate(*expression.children[i + 1]));
    }
    return dict;
  }
  Items items;
  for (const ExpressionPtr& part : expression.children) items.push_back(evaluate(*part));
  return expression.type == ExpressionType::kList ? make_list(std::move(items))
                                                  : make_tuple(std::move(items));
}

Item Interpreter::evaluate_call(const Expression& expression) {
  const Item callee = evaluate(*expression.children[0]);
  const Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  return call(callee, arguments);
}

Item Interpreter::evaluate_filter(const Expression& expression, const Item* input) {
  const ExpressionPtr& inner = expression.children[0];
  Item value;
  if (!inner) {
    value = *input;
  } else if (inner->type == ExpressionType::kFilter && input != nullptr) {
    value = evaluate_filter(*inner, input);
  } else {
    value = evaluate(*inner);
  }
  const Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  return apply_filter(expression.name, value, arguments);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& arguments) {
  Arguments out;
  for (const ExpressionPtr& argument : arguments.positional)
    out.positional.push_back(evaluate(*argument));
  for (const auto& [name, argument] : arguments.named)
    out.named.emplace_back(name, evaluate(*argument));
  if (arguments.more_positional)
    for (Item& item : iterate(evaluate(*arguments.more_positional)))
      out.positional.push_back(std::move(item));
  if (arguments.more_named) {
    const Item more = evaluate(*arguments.more_named);
    if (!more.is(Kind::kDict))
      fail("TypeError", "argument after ** must be a mapping, not " + type_name(more));
    for (const auto& [name, value] : more.as<Dict>().entries)
      out.named.emplace_back(to_str(name), value);
  }
  return out;
}

}  // namespace espalier::text::chat

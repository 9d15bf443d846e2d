#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/chat/item.h"
#include "text/chat/limits.h"
#include "text/chat/syntax_tree.h"

namespace espalier::text::chat {

/// Runs a parsed template once. Raises TemplateFailure. Not thread safe; makes no use of anything
/// shared but the tree.
class Interpreter {
 public:
  explicit Interpreter(const ParsedTemplate& parsed) : parsed_(parsed) {}
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  ~Interpreter();

  void set_variable(const std::string& name, Item value) { globals_->set(name, std::move(value)); }
  std::string render();
  /// Code points of the text that lie in generation blocks; after render().
  const std::vector<std::pair<std::int64_t, std::int64_t>>& generation_spans() const {
    return generation_spans_;
  }

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  struct Scope {
    std::shared_ptr<Scope> outer;
    std::vector<std::pair<std::string, Item>> variables;

    void set(const std::string& name, Item value);
    const Item* find(const std::string& name) const;
  };
  using ScopePtr = std::shared_ptr<Scope>;
  /// Makes a scope current for as long as it lives.
  class Entered;
  /// Sends output to a text of its own for as long as it lives.
  class Captured;
  class CallLevel;

  Flow run_body(const Body& body);
  Flow run(const Statement& statement);
  Flow run_for(const Statement& statement);
  /// Runs a loop over `iterable`; the scope around it is the current one.
  Flow loop_over(const Statement& statement, const Item& iterable, std::int64_t depth0);
  void run_set_block(const Statement& statement);
  void run_call_block(const Statement& statement);
  void run_with(const Statement& statement);
  void run_generation(const Statement& statement);
  std::string captured_body(const Body& body);
  Item make_macro(const Statement& statement, const std::string& name);
  Item run_macro(const Statement& statement, const std::string& name, const ScopePtr& definition,
                 const Arguments& arguments);
  void bind_parameters(const Statement& statement, const std::string& name,
                       const Arguments& arguments);
  void assign(const Expression& target, const Item& value);
  void write(std::string_view text);

  Item evaluate(const Expression& expression);
  Item evaluate_condition(const Expression& expression);
  Item evaluate_compare(const Expression& expression);
  Item evaluate_container(const Expression& expression);
  Item evaluate_call(const Expression& expression);
  Item evaluate_filter(const Expression& expression, const Item* input);
  Arguments evaluate_arguments(const CallArguments& arguments);
  Item look_up(const std::string& name) const;

  const ParsedTemplate& parsed_;
  Meter meter_;
  ScopePtr globals_ = std::make_shared<Scope>();
  ScopePtr scope_ = globals_;
  std::string output_;
  std::string* writer_ = &output_;
  std::vector<std::pair<std::int64_t, std::int64_t>> generation_spans_;
  std::size_t counted_bytes_ = 0;  ///< of output_, whose code points are known
  std::int64_t counted_code_points_ = 0;
  int calls_ = 0;
  std::uint32_t line_ = 0;
  /// Scopes and namespaces may hold each other; the end of the rendering takes them apart.
  std::vector<std::weak_ptr<Scope>> captured_scopes_;
  std::unordered_map<const void*, Item> namespaces_;
};

}  // namespace espalier::text::chat

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "espalier/base/error.h"

namespace espalier::app {

/// Declares and parses the options of one command, on Boost.Program_options. Every mistake is an
/// Error(kBadInput) with a suggestion. `--help` prints usage and throws HelpRequested.
class Options {
 public:
  /// `usage` is what follows "espalier ", e.g. "tokenize --model DIR --input FILE.jsonl"; `text`
  /// explains the command.
  Options(std::string usage, std::string text);

  Options& flag(const std::string& name, bool& target, const std::string& help);
  Options& value(const std::string& name, std::string& target, const std::string& help,
                 bool required = false);
  Options& value(const std::string& name, std::optional<std::string>& target,
                 const std::string& help);
  Options& value(const std::string& name, std::int64_t& target, const std::string& help);
  Options& value(const std::string& name, std::optional<std::int64_t>& target,
                 const std::string& help);
  Options& value(const std::string& name, double& target, const std::string& help);
  Options& value(const std::string& name, std::optional<double>& target, const std::string& help);
  /// May be given several times.
  Options& values(const std::string& name, std::vector<std::string>& target,
                  const std::string& help);
  /// A list in one word, such as "a.so,b.so"; may be given several times.
  Options& separated(const std::string& name, std::vector<std::string>& target, char separator,
                     const std::string& placeholder, const std::string& help);
  /// The next positional word.
  Options& positional(const std::string& name, std::string& target, const std::string& help,
                      bool required = true);
  /// One of `choices`, such as the action of a command.
  Options& positional(const std::string& name, std::string& target,
                      const std::vector<std::string>& choices, const std::string& help);
  /// All positional words that are left; at least one.
  Options& positionals(const std::string& name, std::vector<std::string>& target,
                       const std::string& help);
  /// Collects `--section.key=value` words instead of refusing them, and `--key=value` for the keys
  /// in `top_level`, which are not in a section.
  Options& overrides(std::vector<std::string>& target, const std::string& help,
                     std::vector<std::string> top_level = {});

  void parse(const std::vector<std::string>& arguments) const;

 private:
  struct Option {
    std::string name;
    std::string help;
    std::string placeholder;  ///< "" for a flag
    std::string shown_default;
    bool required = false;
    bool positional = false;
    bool repeated = false;
    std::vector<std::string> choices = {};  ///< of a positional word
    std::function<void(const std::string&)> store;
  };

  /// One word of the command line, as understood by the parser.
  struct Word {
    std::string name;  ///< without dashes; empty for a positional word
    std::string value;
    bool unknown = false;
  };

  Options& add(Option option);
  std::vector<Word> split(const std::vector<std::string>& words) const;
  void store(const std::vector<Word>& words, ProblemList& problems) const;
  void store_option(const Option& option, const std::string& value, ProblemList& problems) const;
  void report_missing(const std::set<std::string>& given, ProblemList& problems) const;
  bool is_override(const std::string& word) const;
  std::string nearest_option(const std::string& name) const;
  void print_help() const;
  void list_options() const;

  std::string usage_;
  std::string text_;
  std::vector<Option> options_;
  std::vector<std::string>* overrides_ = nullptr;
  std::string overrides_help_;
  std::vector<std::string> top_level_;
};

/// First argument of a command that is to print its options, "--name<tab>meaning" a line, as shells
/// complete them.
inline constexpr const char* kListOptions = "--list-options";

/// Thrown by Options::parse after it printed the help; main turns it into exit code 0.
struct HelpRequested {};

}  // namespace espalier::app

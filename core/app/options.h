#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

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
  /// The next positional word.
  Options& positional(const std::string& name, std::string& target, const std::string& help,
                      bool required = true);
  /// Collects `--section.key=value` words instead of refusing them.
  Options& overrides(std::vector<std::string>& target, const std::string& help);

  void parse(const std::vector<std::string>& arguments) const;

 private:
  struct Option {
    std::string name;
    std::string help;
    std::string placeholder;  ///< "" for a flag
    bool required = false;
    bool positional = false;
    std::function<void(const std::string&)> store;
  };

  Options& add(Option option);
  void print_help() const;

  std::string usage_;
  std::string text_;
  std::vector<Option> options_;
  std::vector<std::string>* overrides_ = nullptr;
};

/// Thrown by Options::parse after it printed the help; main turns it into exit code 0.
struct HelpRequested {};

}  // namespace espalier::app

#include "app/options.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <cstdio>
#include <set>
#include <sstream>
#include <string_view>

#include "app/terminal.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace po = boost::program_options;

namespace espalier::app {
namespace {

constexpr std::size_t kHelpWidth = 100;

std::string upper(std::string text) {
  for (char& c : text) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return text;
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(c));
  return text;
}

template <class Number>
Number parse_number(const std::string& text, const std::string& option, const char* expected) {
  Number number{};
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto [rest, error] = std::from_chars(begin, end, number);
  if (error != std::errc() || rest != end || text.empty())
    throw_bad_input("option '--" + option + "' has the wrong type", text, expected, "--" + option);
  return number;
}

std::int64_t parse_int(const std::string& text, const std::string& option) {
  return parse_number<std::int64_t>(text, option, "an integer");
}

double parse_float(const std::string& text, const std::string& option) {
  return parse_number<double>(text, option, "a number");
}

Error syntax_error(const po::error& error) {
  if (const auto* syntax = dynamic_cast<const po::invalid_command_line_syntax*>(&error)) {
    const std::string name = syntax->get_option_name();
    if (syntax->kind() == po::invalid_syntax::missing_parameter)
      return Error({ErrorCode::kBadInput,
                    "option '" + name + "' needs a value",
                    "nothing after it",
                    name + " VALUE",
                    name,
                    {}});
    if (syntax->kind() == po::invalid_syntax::extra_parameter)
      return Error({ErrorCode::kBadInput,
                    "option '" + name + "' takes no value",
                    {},
                    name + " alone",
                    name,
                    {}});
  }
  return Error({ErrorCode::kBadInput, error.what(), {}, {}, "the command line", {}});
}

/// `--name=` becomes `--name` and an empty word: Boost refuses the former.
std::vector<std::string> with_empty_values_apart(const std::vector<std::string>& words) {
  std::vector<std::string> result;
  for (const std::string& word : words) {
    const bool empty_value =
        word.size() > 3 && word.starts_with("--") && word.find('=') == word.size() - 1;
    result.push_back(empty_value ? word.substr(0, word.size() - 1) : word);
    if (empty_value) result.emplace_back();
  }
  return result;
}

}  // namespace

Options::Options(std::string usage, std::string text)
    : usage_(std::move(usage)), text_(std::move(text)) {}

Options& Options::add(Option option) {
  options_.push_back(std::move(option));
  return *this;
}

Options& Options::flag(const std::string& name, bool& target, const std::string& help) {
  return add(
      {.name = name, .help = help, .store = [&target](const std::string&) { target = true; }});
}

Options& Options::value(const std::string& name, std::string& target, const std::string& help,
                        bool required) {
  return add({.name = name,
              .help = help,
              .placeholder = upper(name),
              .shown_default = target,
              .required = required,
              .store = [&target](const std::string& text) { target = text; }});
}

Options& Options::value(const std::string& name, std::optional<std::string>& target,
                        const std::string& help) {
  return add({.name = name,
              .help = help,
              .placeholder = upper(name),
              .store = [&target](const std::string& text) { target = text; }});
}

Options& Options::value(const std::string& name, std::int64_t& target, const std::string& help) {
  return add(
      {.name = name,
       .help = help,
       .placeholder = "N",
       .shown_default = std::to_string(target),
       .store = [&target, name](const std::string& text) { target = parse_int(text, name); }});
}

Options& Options::value(const std::string& name, std::optional<std::int64_t>& target,
                        const std::string& help) {
  return add(
      {.name = name, .help = help, .placeholder = "N", .store = [&target, name](const auto& text) {
         target = parse_int(text, name);
       }});
}

Options& Options::value(const std::string& name, double& target, const std::string& help) {
  return add(
      {.name = name,
       .help = help,
       .placeholder = "X",
       .shown_default = dump_json(Value(target)),
       .store = [&target, name](const std::string& text) { target = parse_float(text, name); }});
}

Options& Options::value(const std::string& name, std::optional<double>& target,
                        const std::string& help) {
  return add(
      {.name = name, .help = help, .placeholder = "X", .store = [&target, name](const auto& text) {
         target = parse_float(text, name);
       }});
}

Options& Options::values(const std::string& name, std::vector<std::string>& target,
                         const std::string& help) {
  return add({.name = name,
              .help = help,
              .placeholder = upper(name),
              .repeated = true,
              .store = [&target](const std::string& text) { target.push_back(text); }});
}

Options& Options::separated(const std::string& name, std::vector<std::string>& target,
                            char separator, const std::string& placeholder,
                            const std::string& help) {
  const auto store = [&target, separator](const std::string& text) {
    std::size_t start = 0;
    while (start <= text.size()) {
      const std::size_t end = std::min(text.find(separator, start), text.size());
      if (end > start) target.push_back(text.substr(start, end - start));
      start = end + 1;
    }
  };
  return add(
      {.name = name, .help = help, .placeholder = placeholder, .repeated = true, .store = store});
}

Options& Options::positional(const std::string& name, std::string& target, const std::string& help,
                             bool required) {
  return add({.name = name,
              .help = help,
              .placeholder = name,
              .required = required,
              .positional = true,
              .store = [&target](const std::string& text) { target = text; }});
}

Options& Options::positional(const std::string& name, std::string& target,
                             const std::vector<std::string>& choices, const std::string& help) {
  const auto store = [&target, choices, name](const std::string& text) {
    if (std::find(choices.begin(), choices.end(), text) == choices.end())
      throw_bad_input("unknown " + lower(name) + " '" + text + "'", {},
                      "one of " + join_names(choices), "the command line",
                      did_you_mean(text, choices));
    target = text;
  };
  return add({.name = name,
              .help = help,
              .placeholder = name,
              .required = true,
              .positional = true,
              .choices = choices,
              .store = store});
}

Options& Options::positionals(const std::string& name, std::vector<std::string>& target,
                              const std::string& help) {
  return add({.name = name,
              .help = help,
              .placeholder = name,
              .required = true,
              .positional = true,
              .repeated = true,
              .store = [&target](const std::string& text) { target.push_back(text); }});
}

Options& Options::overrides(std::vector<std::string>& target, const std::string& help,
                            std::vector<std::string> top_level) {
  overrides_ = &target;
  overrides_help_ = help;
  top_level_ = std::move(top_level);
  return *this;
}

bool Options::is_override(const std::string& word) const {
  if (overrides_ == nullptr || !word.starts_with("--")) return false;
  const std::string name = word.substr(2, word.find('=') - 2);
  return name.find('.') != std::string::npos ||
         std::find(top_level_.begin(), top_level_.end(), name) != top_level_.end();
}

std::string Options::nearest_option(const std::string& name) const {
  std::vector<std::string> names{"--help"};
  for (const Option& option : options_) {
    if (!option.positional) names.push_back("--" + option.name);
  }
  for (const std::string& key : top_level_) names.push_back("--" + key);
  const std::string hint = did_you_mean(name, names);
  return hint.empty() ? "see espalier " + usage_.substr(0, usage_.find(' ')) + " --help" : hint;
}

void Options::list_options() const {
  for (const Option& option : options_) {
    if (!option.positional) std::printf("--%s\t%s\n", option.name.c_str(), option.help.c_str());
    for (const std::string& choice : option.choices) std::printf("%s\t\n", choice.c_str());
  }
  for (const std::string& key : top_level_) std::printf("--%s=\t\n", key.c_str());
}

void Options::parse(const std::vector<std::string>& arguments) const {
  if (std::find(arguments.begin(), arguments.end(), kListOptions) != arguments.end()) {
    list_options();
    throw HelpRequested{};
  }
  std::vector<std::string> words;
  ProblemList problems;
  const auto end_of_options = std::find(arguments.begin(), arguments.end(), "--");
  for (auto word = arguments.begin(); word != arguments.end(); ++word) {
    const bool is_option = word < end_of_options;
    if (is_option && (*word == "--help" || *word == "-h")) {
      print_help();
      throw HelpRequested{};
    }
    if (!is_option || !is_override(*word)) {
      words.push_back(*word);
    } else if (word->find('=') == std::string::npos) {
      problems.add({ErrorCode::kBadInput, "override '" + *word + "' has no value", *word,
                    *word + "=VALUE", *word, "write the value after '=', without blanks"});
    } else {
      overrides_->push_back(*word);
    }
  }
  store(split(with_empty_values_apart(words)), problems);
  problems.throw_if_any();
}

std::vector<Options::Word> Options::split(const std::vector<std::string>& words) const {
  po::options_description description;
  for (const Option& option : options_) {
    if (option.positional) continue;
    if (option.placeholder.empty())
      description.add_options()(option.name.c_str(), "");
    else
      description.add_options()(option.name.c_str(), po::value<std::string>(), "");
  }
  std::vector<Word> result;
  try {
    using namespace po::command_line_style;  // NOLINT(google-build-using-namespace): flags to be
                                             // or-ed
    const po::parsed_options parsed = po::command_line_parser(words)
                                          .options(description)
                                          .style(allow_long | long_allow_adjacent | long_allow_next)
                                          .allow_unregistered()
                                          .run();
    for (const po::option& option : parsed.options) {
      const std::string value = option.value.empty() ? std::string() : option.value.front();
      result.push_back({option.string_key, value, option.unregistered});
    }
  } catch (const po::error& error) {
    throw syntax_error(error);
  }
  return result;
}

void Options::store(const std::vector<Word>& words, ProblemList& problems) const {
  std::set<std::string> given;
  std::vector<const Option*> places;
  bool any_unknown = false;
  for (const Option& option : options_) {
    if (option.positional) places.push_back(&option);
  }
  std::size_t next_place = 0;
  for (const Word& word : words) {
    if (word.unknown) {
      any_unknown = true;
      const std::string name = "--" + word.name;
      problems.add({ErrorCode::kBadInput,
                    "unknown option '" + name + "'",
                    {},
                    {},
                    "the command line",
                    nearest_option(name)});
    } else if (!word.name.empty()) {
      const auto option = std::find_if(options_.begin(), options_.end(), [&](const Option& o) {
        return o.name == word.name && !o.positional;
      });
      if (!given.insert(word.name).second && !option->repeated && !option->placeholder.empty())
        problems.add({ErrorCode::kBadInput,
                      "option '--" + word.name + "' is given twice",
                      {},
                      {},
                      "the command line",
                      "keep one of them"});
      store_option(*option, word.value, problems);
    } else if (next_place < places.size()) {
      given.insert(places[next_place]->name);
      store_option(*places[next_place], word.value, problems);
      if (!places[next_place]->repeated) ++next_place;
    } else if (!any_unknown) {  // otherwise it is likely the value of the unknown option
      problems.add({ErrorCode::kBadInput,
                    "unexpected argument '" + word.value + "'",
                    {},
                    "espalier " + usage_,
                    "the command line",
                    {}});
    }
  }
  if (!any_unknown) report_missing(given, problems);
}

void Options::report_missing(const std::set<std::string>& given, ProblemList& problems) const {
  for (const Option& option : options_) {
    if (!option.required || given.contains(option.name)) continue;
    const std::string shown = option.positional ? option.name : "option '--" + option.name + "'";
    problems.add({ErrorCode::kBadInput,
                  shown + " is missing",
                  {},
                  "espalier " + usage_,
                  "the command line",
                  option.help});
  }
}

void Options::store_option(const Option& option, const std::string& value,
                           ProblemList& problems) const {
  try {
    option.store(value);
  } catch (const Error& error) {
    for (const Problem& problem : error.problems()) problems.add(problem);
  }
}

void Options::print_help() const {
  std::printf("Usage: espalier %s\n\n", usage_.c_str());
  std::istringstream lines(text_);
  for (std::string line; std::getline(lines, line);) std::puts(wrap(line, kHelpWidth, 0).c_str());
  std::vector<std::pair<std::string, std::string>> arguments;
  std::vector<std::pair<std::string, std::string>> options;
  for (const Option& option : options_) {
    std::string help = option.help;
    if (!option.shown_default.empty()) help += " (default: " + option.shown_default + ")";
    if (option.required && !option.positional) help += " (required)";
    if (option.repeated) help += " (may be given several times)";
    if (option.positional) {
      arguments.emplace_back(option.name, help);
    } else {
      const std::string value = option.placeholder.empty() ? "" : " " + option.placeholder;
      options.emplace_back("--" + option.name + value, help);
    }
  }
  if (overrides_ != nullptr) options.emplace_back("--SECTION.KEY=VALUE", overrides_help_);
  options.emplace_back("--help", "print this text");
  std::size_t width = 0;
  for (const auto* list : {&arguments, &options}) {
    for (const auto& [name, help] : *list) width = std::max(width, name.size());
  }
  const auto print = [&](const char* title, const auto& entries) {
    if (entries.empty()) return;
    std::printf("\n%s:\n", title);
    for (const auto& [name, help] : entries) {
      std::printf("  %-*s  %s\n", static_cast<int>(width), name.c_str(),
                  wrap(help, kHelpWidth - width - 4, width + 4).c_str());
    }
  };
  print("Arguments", arguments);
  print("Options", options);
}

}  // namespace espalier::app

#include "app/validate_report.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "app/terminal.h"

namespace espalier::app {
namespace {

using conformance::Outcome;
using conformance::outcome_name;

constexpr Outcome kOutcomes[] = {Outcome::kPass, Outcome::kWarn, Outcome::kSkip, Outcome::kFail};

std::int64_t count(const Validation& validation, Outcome outcome) {
  return std::count_if(
      validation.checks.begin(), validation.checks.end(),
      [&](const ValidatedCheck& check) { return check.result.report.outcome() == outcome; });
}

std::string coloured(Outcome outcome) {
  std::string name(outcome_name(outcome));
  if (!use_colour(STDOUT_FILENO)) return name;
  const char* colours[] = {"32", "33", "36", "31"};
  return std::string("\033[") + colours[static_cast<int>(outcome)] + "m" + name + "\033[0m";
}

void print_indented(const std::string& text, const char* indent) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) std::printf("%s%s\n", indent, line.c_str());
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '&': result += "&amp;"; break;
      case '"': result += "&quot;"; break;
      default:
        // XML 1.0 has no place for other control characters.
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') result += c;
    }
  }
  return result;
}

std::string remarks_text(const ValidatedCheck& check) {
  std::string text;
  for (const Problem& remark : check.result.report.remarks())
    text += (text.empty() ? "" : "\n") + remark.to_string();
  return text;
}

}  // namespace

bool Validation::failed() const { return count(*this, Outcome::kFail) > 0; }

void print_check(const ValidatedCheck& check) {
  const Outcome outcome = check.result.report.outcome();
  std::printf("%s  %-28s %-32s %6.2f s  %s\n", coloured(outcome).c_str(), check.id.c_str(),
              check.component.c_str(), check.result.seconds, check.text.c_str());
  if (outcome == Outcome::kPass) return;
  print_indented(remarks_text(check), "      ");
  if (outcome == Outcome::kFail && !check.result.output.empty()) {
    std::puts("      it wrote:");
    print_indented(check.result.output, "        ");
  }
  std::fflush(stdout);
}

void print_summary(const Validation& validation) {
  std::printf("\n%s: %zu checks at level %lld, seed %lld", validation.plugin.c_str(),
              validation.checks.size(), static_cast<long long>(validation.level),
              static_cast<long long>(validation.seed));
  for (const Outcome outcome : kOutcomes) {
    if (const std::int64_t number = count(validation, outcome); number > 0)
      std::printf(", %lld %s", static_cast<long long>(number), coloured(outcome).c_str());
  }
  std::puts("");
}

Value validation_to_value(const Validation& validation) {
  Array checks;
  for (const ValidatedCheck& check : validation.checks) {
    Array remarks;
    for (const Problem& remark : check.result.report.remarks())
      remarks.push_back(problem_to_value(remark));
    Table entry;
    entry.set("id", check.id);
    entry.set("component", check.component);
    entry.set("level", static_cast<std::int64_t>(check.level));
    entry.set("outcome", std::string(outcome_name(check.result.report.outcome())));
    entry.set("seconds", check.result.seconds);
    entry.set("remarks", std::move(remarks));
    if (!check.result.output.empty()) entry.set("output", check.result.output);
    checks.emplace_back(std::move(entry));
  }
  Table document;
  document.set("file", validation.file);
  document.set("plugin", validation.plugin);
  document.set("level", validation.level);
  document.set("seed", validation.seed);
  for (const Outcome outcome : kOutcomes)
    document.set(outcome_name(outcome), count(validation, outcome));
  document.set("checks", std::move(checks));
  return document;
}

std::string validation_to_junit(const Validation& validation) {
  std::ostringstream xml;
  xml << "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\""
      << escaped(validation.plugin) << "\" tests=\"" << validation.checks.size() << "\" failures=\""
      << count(validation, Outcome::kFail) << "\" skipped=\"" << count(validation, Outcome::kSkip)
      << "\">\n";
  for (const ValidatedCheck& check : validation.checks) {
    xml << "  <testcase classname=\""
        << escaped(check.component.empty() ? validation.plugin : check.component) << "\" name=\""
        << escaped(check.id) << "\" time=\"" << check.result.seconds << "\">\n";
    const std::string text = escaped(remarks_text(check));
    switch (check.result.report.outcome()) {
      case Outcome::kPass: break;
      case Outcome::kWarn: xml << "    <system-out>" << text << "</system-out>\n"; break;
      case Outcome::kSkip: xml << "    <skipped message=\"" << text << "\"/>\n"; break;
      case Outcome::kFail:
        xml << "    <failure message=\"" << escaped(check.text) << "\">" << text << "</failure>\n";
        break;
    }
    xml << "  </testcase>\n";
  }
  xml << "</testsuite>\n";
  return xml.str();
}

}  // namespace espalier::app

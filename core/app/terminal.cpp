#include "app/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace espalier::app {
namespace {

constexpr std::size_t kNoLimit = 1000000;

std::size_t output_width() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 0 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
    return kNoLimit;
  return std::max<std::size_t>(size.ws_col, 60);
}

std::vector<std::size_t> column_widths(const std::vector<std::string>& header,
                                       const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  const auto widen = [&](const std::vector<std::string>& row) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  widen(header);
  for (const auto& row : rows) widen(row);
  return widths;
}

void print_row(const std::vector<std::string>& row, const std::vector<std::size_t>& widths,
               std::string_view indent, std::size_t limit) {
  std::string line(indent);
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (i + 1 == row.size()) {
      line += wrap(row[i], limit > line.size() + 20 ? limit - line.size() : kNoLimit, line.size());
    } else {
      line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    }
  }
  line.erase(line.find_last_not_of(' ') + 1);
  std::puts(line.c_str());
}

}  // namespace

bool use_colour(int descriptor) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && ::isatty(descriptor) == 1 &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}

void print_error(const Error& error) {
  std::fflush(stdout);
  const bool colour = use_colour(STDERR_FILENO);
  for (const Problem& problem : error.problems()) {
    std::string text = problem.to_string();
    constexpr std::string_view kLabel = "error:";
    if (colour && text.starts_with(kLabel))
      text.replace(0, kLabel.size(), "\033[1;31merror:\033[0m");
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

Value problem_to_value(const Problem& problem) {
  Table table;
  table.set("code", error_code_name(problem.code));
  table.set("what", problem.what);
  const auto add = [&](std::string_view key, const std::string& part) {
    if (!part.empty()) table.set(key, part);
  };
  add("found", problem.found);
  add("expected", problem.expected);
  add("where", problem.where);
  add("hint", problem.hint);
  return table;
}

Value error_to_value(const Error& error) {
  Array problems;
  for (const Problem& problem : error.problems()) problems.push_back(problem_to_value(problem));
  Table content;
  content.set("code", error_code_name(error.code()));
  content.set("exit_code", exit_code(error.code()));
  content.set("problems", std::move(problems));
  Table document;
  document.set("error", std::move(content));
  return document;
}

void print_columns(const std::vector<std::string>& header,
                   const std::vector<std::vector<std::string>>& rows, std::string_view indent) {
  const std::vector<std::size_t> widths = column_widths(header, rows);
  const std::size_t limit = output_width();
  if (!header.empty()) print_row(header, widths, indent, limit);
  for (const auto& row : rows) print_row(row, widths, indent, limit);
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  std::string result;
  while (text.size() > width) {
    std::size_t cut = text.rfind(' ', width);
    if (cut == std::string_view::npos || cut == 0) cut = text.find(' ');
    if (cut == std::string_view::npos) break;
    result += text.substr(0, cut);
    result += "\n" + std::string(indent, ' ');
    text.remove_prefix(cut + 1);
  }
  return result + std::string(text);
}

}  // namespace espalier::app

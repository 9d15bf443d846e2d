#include "espalier/base/error.h"

#include <utility>

namespace espalier {
namespace {

std::string join_problems(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    if (!text.empty()) text += "\n";
    text += problem.to_string();
  }
  return text;
}

void append_part(std::string& text, std::string_view label, const std::string& part) {
  if (part.empty()) return;
  text += "\n  ";
  text += label;
  for (char c : part) {
    text += c;
    if (c == '\n') text += "            ";  // continuation lines stay under the first
  }
}

}  // namespace

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk: return "ok";
    case ErrorCode::kBadInput: return "bad_input";
    case ErrorCode::kBadPlugin: return "bad_plugin";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kIo: return "io";
    case ErrorCode::kCheckFailed: return "check_failed";
    case ErrorCode::kPeerFailed: return "peer_failed";
    case ErrorCode::kInternal: return "internal";
  }
  return "internal";
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk: return 0;
    case ErrorCode::kCheckFailed: return 1;
    case ErrorCode::kBadInput: return 2;
    case ErrorCode::kBadPlugin: return 3;
    case ErrorCode::kUnsupported: return 4;
    case ErrorCode::kIo: return 5;
    case ErrorCode::kPeerFailed: return 6;
    case ErrorCode::kInternal: return 70;
  }
  return 70;
}

std::string Problem::to_string() const {
  std::string text = "error: " + what;
  append_part(text, "found:    ", found);
  append_part(text, "expected: ", expected);
  append_part(text, "where:    ", where);
  append_part(text, "fix:      ", hint);
  return text;
}

Error::Error(Problem problem) : Error(std::vector<Problem>{std::move(problem)}) {}

Error::Error(std::vector<Problem> problems) : problems_(std::move(problems)) {
  if (problems_.empty())
    problems_.push_back({ErrorCode::kInternal, "an error without a problem", {}, {}, {}, {}});
  text_ = join_problems(problems_);
}

Error::~Error() = default;

void throw_bad_input(std::string what, std::string found, std::string expected, std::string where,
                     std::string hint) {
  throw Error(Problem{ErrorCode::kBadInput, std::move(what), std::move(found), std::move(expected),
                      std::move(where), std::move(hint)});
}

void ProblemList::throw_if_any() const {
  if (!problems_.empty()) throw Error(problems_);
}

void throw_internal(std::string_view text, const char* file, int line) {
  throw Error(Problem{ErrorCode::kInternal,
                      std::string(text),
                      {},
                      {},
                      std::string(file) + ":" + std::to_string(line),
                      "this is a bug; please report it with the command that led here"});
}

}  // namespace espalier

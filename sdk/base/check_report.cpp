#include "espalier/base/check_report.h"

namespace espalier::conformance {

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass: return "pass";
    case Outcome::kWarn: return "warn";
    case Outcome::kSkip: return "skip";
    case Outcome::kFail: return "fail";
  }
  return "fail";
}

void Report::add(Outcome outcome, Problem remark) {
  if (outcome > outcome_) outcome_ = outcome;
  remarks_.push_back(std::move(remark));
}

void Report::fail(std::string what, std::string found, std::string expected, std::string hint) {
  add(Outcome::kFail, {ErrorCode::kCheckFailed,
                       std::move(what),
                       std::move(found),
                       std::move(expected),
                       {},
                       std::move(hint)});
}

void Report::warn(std::string what, std::string hint) {
  add(Outcome::kWarn, {ErrorCode::kCheckFailed, std::move(what), {}, {}, {}, std::move(hint)});
}

void Report::skip(std::string reason) {
  add(Outcome::kSkip, {ErrorCode::kUnsupported, std::move(reason), {}, {}, {}, {}});
}

Value Report::to_value() const {
  Array remarks;
  for (const Problem& problem : remarks_) {
    Table entry;
    entry.set("what", problem.what);
    entry.set("found", problem.found);
    entry.set("expected", problem.expected);
    entry.set("where", problem.where);
    entry.set("hint", problem.hint);
    remarks.emplace_back(std::move(entry));
  }
  Table table;
  table.set("outcome", static_cast<std::int64_t>(outcome_));
  table.set("remarks", std::move(remarks));
  return table;
}

Report Report::from_value(const Value& value) {
  Report report;
  report.outcome_ = static_cast<Outcome>(value.find("outcome")->as_int());
  for (const Value& entry : value.find("remarks")->as_array()) {
    const auto text = [&](const char* key) { return entry.find(key)->as_string(); };
    report.remarks_.push_back({ErrorCode::kCheckFailed, text("what"), text("found"),
                               text("expected"), text("where"), text("hint")});
  }
  return report;
}

}  // namespace espalier::conformance

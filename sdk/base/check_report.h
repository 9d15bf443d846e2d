#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/error.h"
#include "espalier/base/value.h"

namespace espalier::conformance {

enum class Outcome { kPass, kWarn, kSkip, kFail };

/// "pass", "warn", "skip", "fail".
ESPALIER_API std::string_view outcome_name(Outcome outcome);

/// What a check found. The worst outcome counts; passing is the absence of remarks.
class ESPALIER_API Report {
 public:
  /// `what` is wrong; `found` and `expected` are the numbers or names; `hint` says how to mend it.
  void fail(std::string what, std::string found = {}, std::string expected = {},
            std::string hint = {});
  void warn(std::string what, std::string hint = {});
  /// The check does not apply; `reason` says why not.
  void skip(std::string reason);

  /// Text form for another process; `from_value` is its inverse.
  Value to_value() const;
  static Report from_value(const Value& value);

  Outcome outcome() const { return outcome_; }
  const std::vector<Problem>& remarks() const { return remarks_; }

 private:
  void add(Outcome outcome, Problem remark);

  Outcome outcome_ = Outcome::kPass;
  std::vector<Problem> remarks_;
};

}  // namespace espalier::conformance

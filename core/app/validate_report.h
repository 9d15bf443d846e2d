#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/isolated_check.h"
#include "espalier/base/value.h"

namespace espalier::app {

/// One check that was run, or skipped.
struct ValidatedCheck {
  std::string id;
  std::string component;  ///< empty for checks of the file
  int level = 1;
  std::string text;
  IsolatedResult result;
};

/// All that a validation found.
struct Validation {
  std::string file;
  std::string plugin;
  std::int64_t level = 3;
  std::int64_t seed = 0;
  std::vector<ValidatedCheck> checks;

  bool failed() const;
};

/// One line, and what was found where the check did not pass.
void print_check(const ValidatedCheck& check);
void print_summary(const Validation& validation);
Value validation_to_value(const Validation& validation);
/// JUnit's XML, as CI systems read it: one test case a check.
std::string validation_to_junit(const Validation& validation);

}  // namespace espalier::app

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/value.h"

namespace espalier::app {

/// True when `descriptor` is a terminal and the user did not set NO_COLOR.
bool use_colour(int descriptor);

/// Prints all problems of `error` to stderr, in their four parts.
void print_error(const Error& error);

/// {"error": {"code": "bad_input", "exit_code": 2, "problems": [{"what", "found", ...}]}}
Value error_to_value(const Error& error);

/// {"code", "what", "found", "expected", "where", "hint"}, without the empty parts.
Value problem_to_value(const Problem& problem);

/// Aligned columns on stdout; an empty `header` prints none. In a terminal the last column is
/// wrapped at its width, otherwise lines are as long as they need to be.
void print_columns(const std::vector<std::string>& header,
                   const std::vector<std::vector<std::string>>& rows, std::string_view indent = {});

/// `text` in lines of at most `width` bytes, broken at blanks; lines after the first start with
/// `indent` blanks.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent);

}  // namespace espalier::app

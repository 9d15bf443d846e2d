#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// What kind of thing went wrong; decides the exit code of the program (docs/errors.md).
enum class ErrorCode {
  kOk = 0,
  kBadInput,     ///< the user's recipe, option, file or data is wrong
  kBadPlugin,    ///< a plugin file can't be used, or broke its contract
  kUnsupported,  ///< a valid request that this build, model or machine can't serve
  kIo,           ///< the operating system refused a read, write, sync or rename
  kCheckFailed,  ///< a comparison asked for by the user did not hold
  kPeerFailed,   ///< another process of the same run ended or hangs
  kInternal,     ///< a broken invariant: a bug in Espalier or in a plugin
};

/// Stable lower-case name, as printed in JSON: "bad_input", "bad_plugin", ...
ESPALIER_API std::string_view error_code_name(ErrorCode code);

/// Process exit code for `code`: 0 ok, 1 check failed, 2 bad input, 3 bad plugin, 4 unsupported, 5
/// io, 6 peer failed, 70 internal.
ESPALIER_API int exit_code(ErrorCode code);

/// One thing that went wrong, in the parts that a reader needs to mend it. `what` is mandatory; the
/// rest may be empty where it would repeat `what`.
struct ESPALIER_API Problem {
  ErrorCode code = ErrorCode::kBadInput;
  std::string what;      ///< one sentence without a full stop
  std::string found;     ///< the offending value, as the user wrote it
  std::string expected;  ///< what would have been accepted
  std::string where;     ///< file:line:column, tensor name, option, ...
  std::string hint;      ///< how to mend it; a command where there is one

  /// The message as printed to a terminal: `what`, then one indented line for each part that is not
  /// empty.
  std::string to_string() const;
};

/// An exception that carries one or more problems. All user-visible failures are of this type; it
/// never crosses a plugin boundary (there, a Status does).
class ESPALIER_API Error : public std::exception {
 public:
  explicit Error(Problem problem);
  explicit Error(std::vector<Problem> problems);
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;
  ~Error()
      override;  ///< out of line: the type's one key function, so that its type info exists once

  const std::vector<Problem>& problems() const { return problems_; }
  ErrorCode code() const { return problems_.front().code; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::vector<Problem> problems_;
  std::string text_;
};

/// Shorthand for the common case: throws Error with code kBadInput.
[[noreturn]] ESPALIER_API void throw_bad_input(std::string what, std::string found,
                                               std::string expected, std::string where,
                                               std::string hint = {});

/// Collects problems so that everything wrong is said at once.
class ESPALIER_API ProblemList {
 public:
  void add(Problem problem) { problems_.push_back(std::move(problem)); }
  bool empty() const { return problems_.empty(); }
  const std::vector<Problem>& problems() const { return problems_; }
  /// Throws Error with all collected problems; returns when there are none.
  void throw_if_any() const;

 private:
  std::vector<Problem> problems_;
};

/// Result of a call over a plugin boundary: an Error flattened to values, with the plugin that it
/// came from.
struct Status {
  ErrorCode code = ErrorCode::kOk;
  std::vector<Problem> problems;
  std::string plugin;

  bool ok() const { return code == ErrorCode::kOk; }
};

/// A broken invariant ends in Error(kInternal) with the text and the place; never use it for bad
/// input.
[[noreturn]] ESPALIER_API void throw_internal(std::string_view text, const char* file, int line);

}  // namespace espalier

#define ESPALIER_ASSERT(condition, text)                                    \
  do {                                                                      \
    if (!(condition)) ::espalier::throw_internal(text, __FILE__, __LINE__); \
  } while (false)

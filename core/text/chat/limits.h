#pragma once

#include <cstddef>
#include <cstdint>

namespace espalier::text::chat {

inline constexpr std::uint64_t kMostSteps = 20'000'000;
inline constexpr std::size_t kMostOutputBytes = 64U << 20U;
inline constexpr int kDeepestNesting = 150;        ///< of the source
inline constexpr int kMostBranches = 500;          ///< of one `if`
inline constexpr int kDeepestCalls = 120;          ///< of macros and recursive loops
inline constexpr std::int64_t kLongestRange = 100'000;  ///< as in Jinja's sandbox

/// Counts the work of the rendering that runs on this thread, so that a template that never ends
/// ends in an error.
class Meter {
 public:
  Meter() : outer_(current_) { current_ = this; }
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;
  ~Meter() { current_ = outer_; }

  /// Raises when the rendering has taken too many steps.
  static void charge(std::size_t steps = 1);
  /// Counts the bytes of a new string, and refuses one that is too long.
  static void charge_bytes(std::size_t bytes);

 private:
  static thread_local Meter* current_;
  Meter* outer_;
  std::uint64_t steps_ = 0;
};

}  // namespace espalier::text::chat

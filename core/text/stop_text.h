#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier::text {

/// A text that comes in pieces and ends before the first of some stop strings. What might be the
/// beginning of one is held back until it is clear, so no part of a stop string is ever given out.
class StopText {
 public:
  /// Empty strings among `stops` are ignored.
  explicit StopText(std::vector<std::string> stops);

  /// What may be shown of all pieces up to this one and was not given out before.
  std::string push(std::string_view piece);
  /// What was held back, at the end of a text that was not stopped.
  std::string finish();
  /// Whether a stop string came; what is pushed afterwards is dropped.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace espalier::text

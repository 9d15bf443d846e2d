#pragma once

namespace espalier::report {

/// The style sheet and the scripts that every page holds.
extern const char* const kPageStyle;
extern const char* const kPageScript;

}  // namespace espalier::report

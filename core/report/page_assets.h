#pragma once

namespace espalier::report {

/// page.css and page.js, which every page holds.
extern const char* const kPageStyle;
extern const char* const kPageScript;

}  // namespace espalier::report

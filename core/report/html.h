#pragma once

#include <string>
#include <string_view>

namespace espalier::report {

/// `text` as content of an element or of an attribute in double quotes.
inline std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

/// The mark of a run, in the colour of its curves.
inline std::string run_dot(std::size_t run) {
  return "<i class=\"dot\" style=\"background:var(--c" + std::to_string(run % 8) + ")\"></i>";
}

}  // namespace espalier::report

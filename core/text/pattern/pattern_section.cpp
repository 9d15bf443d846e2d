#include "text/pattern/pattern_section.h"

namespace espalier::text {

std::unique_ptr<Pattern> read_pattern(const JsonNode& section) {
  const JsonNode pattern = section.at("pattern");
  if (const auto literal = pattern.find("String"))
    return make_literal_pattern(literal->as_string());
  if (const auto regex = pattern.find("Regex"))
    return make_fast_pattern(regex->as_string(), regex->where());
  pattern.fail("a pattern is neither a string nor a regular expression", {}, "String or Regex");
}

}  // namespace espalier::text

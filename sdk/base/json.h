#pragma once

#include <string>
#include <string_view>

#include "espalier/base/api.h"
#include "espalier/base/value.h"

namespace espalier {

struct JsonReadOptions {
  std::string file;  ///< named in errors and in the positions of all values
  bool allow_duplicate_keys =
      false;  ///< false: a repeated key is an error; true: the last one wins
  /// Accepts the numbers Infinity, -Infinity and NaN, as Python does; older config.json hold them.
  bool allow_nonfinite = false;
};

/// Parses one JSON document. Values carry the file but no line. Throws Error(kBadInput) with line
/// and column of the first mistake; nesting deeper than 512 is one. Integers outside int64 become
/// doubles.
ESPALIER_API Value parse_json(std::string_view text, const JsonReadOptions& options = {});

/// Reads and parses a file; a missing or unreadable file is an Error(kIo).
ESPALIER_API Value read_json_file(const std::string& path, JsonReadOptions options = {});

/// `indent` < 0 writes one line. Doubles are written with the fewest digits that read back to the
/// same bits, and always with a point or an exponent; NaN and infinities as NaN, Infinity,
/// -Infinity (as Python does). Text is UTF-8; invalid UTF-8 is replaced by U+FFFD.
ESPALIER_API std::string dump_json(const Value& value, int indent = -1);

}  // namespace espalier

#pragma once

#include <vector>

#include "text/json_node.h"
#include "text/pre_tokenized_text.h"

namespace espalier::text {

/// What happens to the matches of a splitting pattern.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// `key` of `section`; `fallback` when it is missing.
SplitBehavior read_split_behavior(const JsonNode& section, std::string_view key);

/// Turns the spans of a piece (which cover it) into new pieces. With `invert`, what lies between
/// the matches counts as match.
void split_piece(const Piece& piece, std::vector<Span>& spans, SplitBehavior behavior, bool invert,
                 std::vector<Piece>& out);

/// Splits every piece of `text` by `pattern`.
void split_by_pattern(PreTokenizedText& text, const Pattern& pattern, SplitBehavior behavior,
                      bool invert = false);

}  // namespace espalier::text

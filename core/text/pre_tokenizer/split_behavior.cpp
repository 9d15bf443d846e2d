#include "text/pre_tokenizer/split_behavior.h"

namespace espalier::text {
namespace {

/// Joins a match to the piece before it, unless that is a match as well.
void merge_with_previous(std::vector<Span>& spans) {
  std::size_t kept = 0;
  bool previous_matched = false;
  for (const Span span : spans) {  // copies: pieces take the place of spans
    if (span.matched && !previous_matched && kept > 0) {
      spans[kept - 1].end = span.end;
    } else {
      spans[kept++] = {span.begin, span.end, false};
    }
    previous_matched = span.matched;
  }
  spans.resize(kept);
}

void merge_with_next(std::vector<Span>& spans) {
  std::size_t kept = spans.size();
  bool previous_matched = false;
  for (std::size_t i = spans.size(); i-- > 0;) {
    const Span span = spans[i];
    if (span.matched && !previous_matched && kept < spans.size()) {
      spans[kept].begin = span.begin;
    } else {
      spans[--kept] = {span.begin, span.end, false};
    }
    previous_matched = span.matched;
  }
  spans.erase(spans.begin(), spans.begin() + static_cast<std::ptrdiff_t>(kept));
}

void merge_equal(std::vector<Span>& spans) {
  std::size_t kept = 0;
  bool previous_matched = false;
  for (const Span span : spans) {
    if (span.matched == previous_matched && kept > 0) {
      spans[kept - 1].end = span.end;
    } else {
      spans[kept++] = {span.begin, span.end, false};
    }
    previous_matched = span.matched;
  }
  spans.resize(kept);
}

}  // namespace

SplitBehavior read_split_behavior(const JsonNode& section, std::string_view key) {
  const JsonNode node = section.at(key);
  const std::string name = node.as_string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  node.fail("unknown behavior of a split", name,
            "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

void split_piece(const Piece& piece, std::vector<Span>& spans, SplitBehavior behavior, bool invert,
                 std::vector<Piece>& out) {
  if (invert)
    for (Span& span : spans) span.matched = !span.matched;
  switch (behavior) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated: break;
    case SplitBehavior::kMergedWithPrevious: merge_with_previous(spans); break;
    case SplitBehavior::kMergedWithNext: merge_with_next(spans); break;
    case SplitBehavior::kContiguous: merge_equal(spans); break;
  }
  for (const Span& span : spans) {
    if (span.matched && behavior == SplitBehavior::kRemoved) continue;
    out.push_back(
        {piece.text, piece.begin + span.begin, piece.begin + span.end, -1, piece.byte_level});
  }
}

void split_by_pattern(PreTokenizedText& text, const Pattern& pattern, SplitBehavior behavior,
                      bool invert) {
  text.split([&](const Piece& piece, std::vector<Piece>& out) {
    text.spans.clear();
    pattern.find(piece.view(), text.spans);
    split_piece(piece, text.spans, behavior, invert, out);
  });
}

}  // namespace espalier::text

#include "text/aligned_text.h"

#include <algorithm>

#include "espalier/base/utf8.h"

namespace espalier::text {

ByteRange AlignedText::range(std::uint32_t at) const {
  if (changed_) return at < alignment_.size() ? alignment_[at] : ByteRange{base_, base_};
  std::size_t begin = at;
  while (begin > 0 && is_utf8_continuation(view_[begin])) --begin;
  const std::size_t end = std::min(begin + utf8_length(view_[begin]), view_.size());
  return {static_cast<std::uint32_t>(base_ + begin), static_cast<std::uint32_t>(base_ + end)};
}

ByteRange AlignedText::range(std::uint32_t begin, std::uint32_t end) const {
  const auto size = static_cast<std::uint32_t>(view_.size());
  if (begin >= end || begin >= size) return {base_ + begin, base_ + end};
  return {range(begin).begin, range(std::min(end, size) - 1).end};
}

void AlignedText::copy_alignment(std::uint32_t begin, std::uint32_t end,
                                 std::vector<ByteRange>& out) const {
  if (!track_) return;
  for (std::uint32_t at = begin; at < end; ++at) out.push_back(range(at));
}

void AlignedText::assign(std::string text, std::vector<ByteRange> alignment) {
  storage_ = std::move(text);
  view_ = storage_;
  alignment_ = std::move(alignment);
  changed_ = true;
}

void AlignedText::transform(std::uint32_t begin, std::uint32_t end,
                            const std::vector<CharChange>& changes, std::size_t skipped) {
  std::string text(view_.substr(0, begin));
  std::vector<ByteRange> alignment;
  copy_alignment(0, begin, alignment);
  std::size_t old = begin;  // place of the next old character to use up
  const auto use_up = [&] {
    if (old < end) old += utf8_length(view_[old]);
  };
  for (std::size_t i = 0; i < skipped; ++i) use_up();
  for (const auto& [point, change] : changes) {
    const std::size_t size_before = text.size();
    append_utf8(text, point);
    if (track_) {
      const ByteRange here = change <= 0 ? range(static_cast<std::uint32_t>(old))
                             : old == 0  ? ByteRange{base_, base_}
                                         : range(static_cast<std::uint32_t>(old - 1));
      alignment.insert(alignment.end(), text.size() - size_before, here);
    }
    for (int used = change; used <= 0; ++used) use_up();
  }
  text += view_.substr(end);
  copy_alignment(end, static_cast<std::uint32_t>(view_.size()), alignment);
  assign(std::move(text), std::move(alignment));
}

void AlignedText::prepend(std::string_view text) {
  if (view_.empty() || text.empty()) return;
  std::vector<ByteRange> alignment;
  if (track_) {
    alignment.assign(text.size(), range(0));
    copy_alignment(0, static_cast<std::uint32_t>(view_.size()), alignment);
  }
  assign(std::string(text) + std::string(view_), std::move(alignment));
}

void AlignedText::append(std::string_view text) {
  const auto size = static_cast<std::uint32_t>(view_.size());
  std::vector<ByteRange> alignment;
  copy_alignment(0, size, alignment);
  if (track_)
    alignment.insert(alignment.end(), text.size(),
                     size == 0 ? ByteRange{base_, base_} : range(size - 1));
  assign(std::string(view_) + std::string(text), std::move(alignment));
}

void AlignedText::replace(const Pattern& pattern, std::string_view content) {
  std::vector<Span> spans;
  pattern.find(view_, spans);
  if (std::none_of(spans.begin(), spans.end(), [](const Span& span) { return span.matched; }))
    return;
  std::string text;
  std::vector<ByteRange> alignment;
  for (const Span& span : spans) {
    if (!span.matched) {
      text += view_.substr(span.begin, span.end - span.begin);
      copy_alignment(span.begin, span.end, alignment);
      continue;
    }
    // The new characters belong to the place of the last one that they replace.
    text += content;
    if (track_)
      alignment.insert(alignment.end(), content.size(),
                       span.end == 0 ? ByteRange{base_, base_} : range(span.end - 1));
  }
  assign(std::move(text), std::move(alignment));
}

}  // namespace espalier::text

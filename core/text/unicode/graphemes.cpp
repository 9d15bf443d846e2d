#include "text/unicode/graphemes.h"

#include <utf8proc.h>

#include "espalier/base/utf8.h"
#include "text/unicode/properties.h"

namespace espalier::text {
namespace {

int break_class(char32_t point) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(point))->boundclass;
}

bool is_control(int c) {
  return c == UTF8PROC_BOUNDCLASS_CONTROL || c == UTF8PROC_BOUNDCLASS_CR ||
         c == UTF8PROC_BOUNDCLASS_LF;
}

}  // namespace

std::size_t grapheme_length(std::string_view text) {
  std::size_t end = 0;
  int previous = break_class(next_code_point(text, end));
  bool pictographic = previous == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC;
  while (end < text.size()) {
    if (static_cast<unsigned char>(text[end]) < 0x80 && text[end] >= ' ' &&
        previous != UTF8PROC_BOUNDCLASS_PREPEND)
      break;
    std::size_t next = end;
    const char32_t point = next_code_point(text, next);
    const int current = break_class(point);
    const bool joins = (CharClassTable::get()[point] & kJoining) != 0;
    const bool joined = previous == UTF8PROC_BOUNDCLASS_CR ? current == UTF8PROC_BOUNDCLASS_LF
                        : is_control(previous) || (is_control(current) && !joins)
                            ? false
                            : joins || previous == UTF8PROC_BOUNDCLASS_PREPEND ||
                                  (pictographic && previous == UTF8PROC_BOUNDCLASS_ZWJ &&
                                   current == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC);
    if (!joined) break;
    // Marks keep a pictograph open for a joiner behind them.
    if (!joins) pictographic = current == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC;
    previous = current;
    end = next;
  }
  return end;
}

}  // namespace espalier::text

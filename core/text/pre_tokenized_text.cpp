#include "text/pre_tokenized_text.h"

namespace espalier::text {

AlignedText& PreTokenizedText::detach(const Piece& piece) {
  if (!piece.text->changed()) {
    const std::uint32_t begin = track_ ? piece.text->range(piece.begin).begin : 0;
    return add_text(piece.view(), begin);
  }
  std::vector<ByteRange> alignment;
  piece.text->copy_alignment(piece.begin, piece.end, alignment);
  const std::uint32_t base = alignment.empty() ? 0 : alignment.front().begin;
  AlignedText& text = add_text({}, base);
  text.assign(std::string(piece.view()), std::move(alignment));
  return text;
}

}  // namespace espalier::text

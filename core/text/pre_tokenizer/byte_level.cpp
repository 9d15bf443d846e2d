#include "text/byte_alphabet.h"
#include "text/pre_tokenizer/pre_tokenizer.h"
#include "text/pre_tokenizer/split_behavior.h"

namespace espalier::text {
namespace {

/// Splits as GPT-2 does and writes each byte as a character of the byte alphabet.
class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(const JsonNode& section)
      : add_prefix_space_(section.at("add_prefix_space").as_bool()) {
    section.at("trim_offsets").as_bool();
    if (section.bool_or("use_regex", true)) pattern_ = make_lexer_pattern(kGpt2Expression);
  }

  bool ends_byte_level() const override { return true; }
  void defer_bytes() override { deferred_ = true; }

  void pre_tokenize(PreTokenizedText& text) const override {
    if (add_prefix_space_) prefix_spaces(text);
    if (pattern_) split_by_pattern(text, *pattern_, SplitBehavior::kIsolated);
    for (Piece& piece : text.pieces) {
      if (piece.added_id >= 0) continue;
      if (deferred_ && !piece.byte_level) {
        piece.byte_level = true;
      } else {
        translate(text, piece);
      }
    }
  }

 private:
  static void prefix_spaces(PreTokenizedText& text) {
    for (Piece& piece : text.pieces) {
      if (piece.added_id >= 0 || piece.view().starts_with(' ')) continue;
      AlignedText& own = text.detach(piece);
      own.prepend(" ");
      piece = {&own, 0, static_cast<std::uint32_t>(own.view().size())};
    }
  }

  static void translate(PreTokenizedText& text, Piece& piece) {
    AlignedText& own = text.detach(piece);
    own.transform(byte_level_changes(own.view()));
    piece = {&own, 0, static_cast<std::uint32_t>(own.view().size())};
  }

  bool add_prefix_space_;
  bool deferred_ = false;
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_byte_level_pre_tokenizer(const JsonNode& section) {
  return std::make_unique<ByteLevel>(section);
}

}  // namespace espalier::text

#include "text/metaspace_section.h"
#include "text/pre_tokenizer/pre_tokenizer.h"
#include "text/pre_tokenizer/split_behavior.h"

namespace espalier::text {
namespace {

/// SentencePiece's treatment of spaces: a visible mark in place of each, in front of each word.
class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const JsonNode& section)
      : settings_(MetaspaceSection::read(section)),
        space_(make_literal_pattern(" ")),
        mark_(make_literal_pattern(settings_.replacement)) {}

  void pre_tokenize(PreTokenizedText& text) const override {
    text.split([&](const Piece& piece, std::vector<Piece>& out) {
      const std::uint32_t place = piece.text->range(piece.begin).begin;
      AlignedText& own = text.detach(piece);
      own.replace(*space_, settings_.replacement);
      const bool wanted =
          settings_.prepend_scheme == PrependScheme::kAlways ||
          (settings_.prepend_scheme == PrependScheme::kFirst && is_first(text, piece, place));
      if (wanted && !own.view().starts_with(settings_.replacement))
        own.prepend(settings_.replacement);
      const Piece whole{&own, 0, static_cast<std::uint32_t>(own.view().size())};
      if (!settings_.split) {
        out.push_back(whole);
        return;
      }
      text.spans.clear();
      mark_->find(own.view(), text.spans);
      split_piece(whole, text.spans, SplitBehavior::kMergedWithNext, false, out);
    });
  }

 private:
  /// Whether the piece starts where the input does.
  static bool is_first(const PreTokenizedText& text, const Piece& piece, std::uint32_t place) {
    if (text.tracked() || !piece.text->changed()) return place == 0;
    return &piece == text.pieces.data();
  }

  MetaspaceSection settings_;
  std::unique_ptr<Pattern> space_;
  std::unique_ptr<Pattern> mark_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_metaspace(const JsonNode& section) {
  return std::make_unique<Metaspace>(section);
}

}  // namespace espalier::text

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::text {

/// What a SentencePiece model file (`tokenizer.model`) says, as far as tokenizing needs it.
struct SentencePieceModel {
  enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  enum class Algorithm { kUnigram = 1, kBpe, kWord, kChar };

  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;
  std::int32_t unk_id = 0;
  std::int32_t bos_id = 1;
  std::int32_t eos_id = 2;
  std::string unk_piece = "<unk>";
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string character_map;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// Whether `bytes` look like a model and not like text.
bool is_sentencepiece_model(std::string_view bytes);

/// Reads the protocol buffer ModelProto of sentencepiece_model.proto. Throws Error(kBadInput) with
/// `where` for a damaged file.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& where);

}  // namespace espalier::text

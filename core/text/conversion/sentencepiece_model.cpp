#include "text/conversion/sentencepiece_model.h"

#include <cstring>

#include "espalier/base/error.h"

namespace espalier::text {
namespace {

/// Walks over the fields of one protocol buffer message.
class MessageReader {
 public:
  MessageReader(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  /// Goes to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const std::uint64_t tag = varint();
    number_ = static_cast<std::uint32_t>(tag >> 3U);
    constexpr std::uint64_t kVarint = 0;
    constexpr std::uint64_t kFixed64 = 1;
    constexpr std::uint64_t kLengthDelimited = 2;
    constexpr std::uint64_t kFixed32 = 5;
    kind_ = tag & 7U;
    switch (kind_) {
      case kVarint: value_ = varint(); break;
      case kFixed64: content_ = take(8); break;
      case kFixed32: content_ = take(4); break;
      case kLengthDelimited: content_ = take(varint()); break;
      default: fail("a field of unknown kind");
    }
    if (number_ == 0) fail("a field without number");
    return true;
  }

  std::uint32_t number() const { return number_; }
  bool as_bool() const { return as_int() != 0; }
  std::int32_t as_int() const {
    expect(0);
    return static_cast<std::int32_t>(value_);
  }
  float as_float() const {
    expect(5);
    float value = 0;
    std::memcpy(&value, content_.data(), sizeof value);
    return value;
  }
  std::string_view as_bytes() const {
    expect(2);
    return content_;
  }

  [[noreturn]] void fail(const std::string& found) const {
    throw_bad_input("a SentencePiece model is damaged", found, "a protocol buffer ModelProto",
                    where_, "download the file again");
  }

 private:
  void expect(std::uint64_t kind) const {
    if (kind_ != kind) fail("field " + std::to_string(number_) + " with a value of another type");
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) fail("an end in the middle of a field");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of too many bytes");
  }
  std::string_view take(std::uint64_t length) {
    if (length > bytes_.size() - at_) fail("an end in the middle of a field");
    const std::string_view taken = bytes_.substr(at_, length);
    at_ += length;
    return taken;
  }

  std::string_view bytes_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::uint32_t number_ = 0;
  std::uint64_t kind_ = 0;
  std::uint64_t value_ = 0;
  std::string_view content_;
};

SentencePieceModel::Piece read_piece(std::string_view bytes, const std::string& where) {
  SentencePieceModel::Piece piece;
  MessageReader fields(bytes, where);
  while (fields.next()) {
    switch (fields.number()) {
      case 1: piece.text = fields.as_bytes(); break;
      case 2: piece.score = fields.as_float(); break;
      case 3: {
        const std::int32_t type = fields.as_int();
        if (type < 1 || type > 6) fields.fail("a piece of type " + std::to_string(type));
        piece.type = static_cast<SentencePieceModel::PieceType>(type);
        break;
      }
      default: break;
    }
  }
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  MessageReader fields(bytes, where);
  while (fields.next()) {
    switch (fields.number()) {
      case 3: {
        const std::int32_t algorithm = fields.as_int();
        if (algorithm < 1 || algorithm > 4)
          fields.fail("a model of type " + std::to_string(algorithm));
        model.algorithm = static_cast<SentencePieceModel::Algorithm>(algorithm);
        break;
      }
      case 35: model.byte_fallback = fields.as_bool(); break;
      case 40: model.unk_id = fields.as_int(); break;
      case 41: model.bos_id = fields.as_int(); break;
      case 42: model.eos_id = fields.as_int(); break;
      case 45: model.unk_piece = fields.as_bytes(); break;
      case 46: model.bos_piece = fields.as_bytes(); break;
      case 47: model.eos_piece = fields.as_bytes(); break;
      default: break;
    }
  }
}

void read_normalizer(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  MessageReader fields(bytes, where);
  while (fields.next()) {
    switch (fields.number()) {
      case 2: model.character_map = fields.as_bytes(); break;
      case 3: model.add_dummy_prefix = fields.as_bool(); break;
      case 4: model.remove_extra_whitespaces = fields.as_bool(); break;
      case 5: model.escape_whitespaces = fields.as_bool(); break;
      default: break;
    }
  }
}

}  // namespace

bool is_sentencepiece_model(std::string_view bytes) {
  // The first field is a piece: its tag is a line feed. Ranks of tiktoken are lines of base64.
  return bytes.starts_with('\n');
}

SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  MessageReader fields(bytes, where);
  while (fields.next()) {
    switch (fields.number()) {
      case 1: model.pieces.push_back(read_piece(fields.as_bytes(), where)); break;
      case 2: read_trainer(fields.as_bytes(), where, model); break;
      case 3: read_normalizer(fields.as_bytes(), where, model); break;
      default: break;
    }
  }
  if (model.pieces.empty()) fields.fail("no pieces");
  if (model.unk_id < 0 || static_cast<std::size_t>(model.unk_id) >= model.pieces.size())
    fields.fail("unk_id " + std::to_string(model.unk_id));
  return model;
}

}  // namespace espalier::text

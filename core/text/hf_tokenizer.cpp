#include "text/hf_tokenizer.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/utf8.h"

namespace espalier::text {
namespace {

/// `text` itself, or `mended` when it had invalid bytes.
std::string_view valid_text(std::string_view text, std::string& mended) {
  constexpr std::size_t kMostBytes = 0x7FFFFF00;
  if (text.size() > kMostBytes)
    throw_bad_input("a text is too long to tokenize", std::to_string(text.size()) + " bytes",
                    "less than 2 GiB", {}, "split it");
  if (is_valid_utf8(text)) return text;
  mended = replace_invalid_utf8(text);
  return mended;
}

/// Number of code points before each byte, and behind the last one.
std::vector<std::uint32_t> index_code_points(std::string_view text) {
  std::vector<std::uint32_t> index(text.size() + 1);
  std::uint32_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!is_utf8_continuation(text[at])) ++count;
    index[at] = count - 1;
  }
  index[text.size()] = count;
  return index;
}

/// Bytes to code points with the reference's treatment of places behind the end, which tokens have
/// whose spelling is longer than their text.
std::pair<std::int64_t, std::int64_t> to_code_points(const std::vector<std::uint32_t>& index,
                                                     ByteRange range) {
  const std::size_t size = index.size() - 1;
  if (range.begin >= size && range.end > size) return {range.begin, range.end};
  const std::uint32_t begin = index[std::min<std::size_t>(range.begin, size)];
  if (range.end <= size) return {begin, index[range.end]};
  return {begin, range.end - 1 < size ? index[range.end - 1] + 1 : begin + 2};
}

}  // namespace

/// Takes a scratch for as long as it lives.
class HfTokenizer::BorrowedScratch {
 public:
  explicit BorrowedScratch(const HfTokenizer& owner) : owner_(owner) {
    {
      const std::lock_guard lock(owner_.scratch_mutex_);
      if (!owner_.free_scratch_.empty()) {
        scratch_ = std::move(owner_.free_scratch_.back());
        owner_.free_scratch_.pop_back();
      }
    }
    if (scratch_ == nullptr) {
      scratch_ = std::make_unique<Scratch>();
      scratch_->model = owner_.parts_.model->make_scratch();
    }
    scratch_->tokens.clear();
  }
  BorrowedScratch(const BorrowedScratch&) = delete;
  BorrowedScratch& operator=(const BorrowedScratch&) = delete;
  ~BorrowedScratch() {
    const std::lock_guard lock(owner_.scratch_mutex_);
    owner_.free_scratch_.push_back(std::move(scratch_));
  }

  Scratch& operator*() const { return *scratch_; }

 private:
  const HfTokenizer& owner_;
  std::unique_ptr<Scratch> scratch_;
};

void HfTokenizer::pre_tokenize(PreTokenizedText& text) const {
  parts_.added_vocabulary.extract_and_normalize(text, parts_.normalizer.get());
  if (parts_.pre_tokenizer) parts_.pre_tokenizer->pre_tokenize(text);
}

std::vector<std::int32_t> HfTokenizer::encode(std::string_view text,
                                              bool add_special_tokens) const {
  std::string mended;
  PreTokenizedText pre_tokenized(valid_text(text, mended), false);
  pre_tokenize(pre_tokenized);
  const BorrowedScratch borrowed(*this);
  Scratch& scratch = *borrowed;
  for (const Piece& piece : pre_tokenized.pieces) {
    if (piece.added_id >= 0) {
      scratch.tokens.push_back({piece.added_id, 0});
    } else {
      parts_.model->tokenize(piece.view(), *scratch.model, scratch.tokens);
    }
  }
  std::vector<Encoding> parts(1);
  parts[0].ids.reserve(scratch.tokens.size() + 2);
  for (const TokenSpan& token : scratch.tokens) parts[0].ids.push_back(token.id);
  return post_process(std::move(parts), add_special_tokens, true).ids;
}

Encoding HfTokenizer::post_process(std::vector<Encoding> parts, bool add_special_tokens,
                                   bool ids_only) const {
  if (!ids_only)
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts[i].type_ids.assign(parts[i].ids.size(), static_cast<std::int32_t>(i));
  if (parts_.post_processor) parts_.post_processor->process(parts, add_special_tokens, ids_only);
  return join_encodings(std::move(parts));
}

void HfTokenizer::append_piece(const Piece& piece, const std::vector<std::uint32_t>& char_index,
                               Scratch& scratch, Encoding& encoding) const {
  scratch.tokens.clear();
  if (piece.added_id >= 0) {
    scratch.tokens.push_back({piece.added_id, piece.end - piece.begin});
  } else {
    parts_.model->tokenize(piece.view(), *scratch.model, scratch.tokens);
  }
  std::uint32_t at = piece.begin;
  for (const TokenSpan& token : scratch.tokens) {
    const std::uint32_t end = at + token.length;
    const ByteRange range = end <= piece.end ? piece.text->range(at, end)
                                             : ByteRange{at - piece.begin, end - piece.begin};
    encoding.ids.push_back(token.id);
    if (piece.added_id >= 0) {
      encoding.tokens.emplace_back(piece.view());
    } else {
      const std::string_view word =
          end <= piece.end ? piece.text->view().substr(at, token.length) : std::string_view();
      encoding.tokens.emplace_back(parts_.model->token_text(token.id, word));
    }
    if (token.stays == 0) at += token.length;
    encoding.offsets.push_back(to_code_points(char_index, range));
  }
}

Encoding HfTokenizer::encode_plain(std::string_view text) const {
  std::string mended;
  const std::string_view valid = valid_text(text, mended);
  PreTokenizedText pre_tokenized(valid, true);
  pre_tokenize(pre_tokenized);
  const std::vector<std::uint32_t> char_index = index_code_points(valid);
  const BorrowedScratch borrowed(*this);
  Encoding encoding;
  for (const Piece& piece : pre_tokenized.pieces)
    append_piece(piece, char_index, *borrowed, encoding);
  return encoding;
}

Encoding HfTokenizer::encode_with_offsets(std::string_view text, bool add_special_tokens) const {
  std::vector<Encoding> parts;
  parts.push_back(encode_plain(text));
  return post_process(std::move(parts), add_special_tokens, false);
}

Encoding HfTokenizer::encode_pair(std::string_view first, std::string_view second,
                                  bool add_special_tokens) const {
  std::vector<Encoding> parts;
  parts.push_back(encode_plain(first));
  parts.push_back(encode_plain(second));
  return post_process(std::move(parts), add_special_tokens, false);
}

std::string HfTokenizer::decode(const std::vector<std::int32_t>& ids,
                                bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    std::string token;
    if (const AddedToken* added = parts_.added_vocabulary.find(id)) {
      token = added->decoded;
    } else if (parts_.model->has_id(id)) {
      token = std::string(parts_.model->id_to_token(id));
    } else {
      continue;
    }
    if (skip_special_tokens && parts_.added_vocabulary.is_special(token)) continue;
    tokens.push_back(std::move(token));
  }
  std::string text;
  if (parts_.decoder) {
    for (const std::string& part : parts_.decoder->decode(std::move(tokens))) text += part;
    return text;
  }
  for (const std::string& token : tokens) text += (&token == tokens.data() ? "" : " ") + token;
  return text;
}

std::int32_t HfTokenizer::token_to_id(std::string_view token) const {
  const std::int32_t added = parts_.added_vocabulary.token_to_id(std::string(token));
  return added >= 0 ? added : parts_.model->token_to_id(token);
}

std::string HfTokenizer::id_to_token(std::int32_t id) const {
  if (const AddedToken* added = parts_.added_vocabulary.find(id)) return added->content;
  return std::string(parts_.model->id_to_token(id));
}

std::int64_t HfTokenizer::vocab_size() const {
  return std::max(parts_.model->largest_id(), parts_.added_vocabulary.largest_id()) + 1;
}

}  // namespace espalier::text

#include "text/stream_decoder.h"

namespace espalier::text {

std::string StreamDecoder::decode(std::size_t from) const {
  return tokenizer_->decode({ids_.begin() + static_cast<std::ptrdiff_t>(from), ids_.end()},
                            skip_special_tokens_);
}

std::string StreamDecoder::push(std::int32_t id) {
  ids_.push_back(id);
  const std::string text = decode(0);
  const bool complete = !text.ends_with("\xEF\xBF\xBD") && text.starts_with(shown_text_);
  if (!complete || text.size() == shown_text_.size()) return {};
  std::string added = text.substr(shown_text_.size());
  // The tokens of this step stay as the context of the next one.
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(shown_));
  shown_ = ids_.size();
  shown_text_ = decode(0);
  return added;
}

std::string StreamDecoder::finish() {
  const std::string text = decode(0);
  // A broken character at the end can spoil the text of whole ones before it.
  std::string rest =
      text.starts_with(shown_text_) ? text.substr(shown_text_.size()) : decode(shown_);
  ids_.clear();
  shown_ = 0;
  shown_text_.clear();
  return rest;
}

}  // namespace espalier::text

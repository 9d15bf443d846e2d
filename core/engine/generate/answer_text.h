#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/sdk/tokenizer.h"
#include "text/stop_text.h"
#include "text/stream_decoder.h"

namespace espalier {

/// The text of an answer while it is written. The pieces put together are the whole text, whether
/// they were shown one by one or not.
class AnswerText {
 public:
  AnswerText(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops)
      : decoder_(std::move(tokenizer), /*skip_special_tokens=*/true), stop_(std::move(stops)) {}

  /// What id adds to what may be shown.
  std::string push(std::int64_t id) { return keep(decoder_.push(static_cast<std::int32_t>(id))); }
  /// What is left at the end.
  std::string finish() {
    std::string rest = keep(decoder_.finish());
    const std::string held = stop_.finish();
    text_ += held;
    return rest + held;
  }
  bool stopped() const { return stop_.stopped(); }
  const std::string& text() const { return text_; }

 private:
  std::string keep(const std::string& piece) {
    std::string shown = stop_.push(piece);
    text_ += shown;
    return shown;
  }

  text::StreamDecoder decoder_;
  text::StopText stop_;
  std::string text_;
};

}  // namespace espalier

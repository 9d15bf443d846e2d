#pragma once

#include <memory>

#include "espalier/sdk/dataset.h"

namespace espalier::conformance {

/// A tokenizer with one id a byte, and 256 to 258 for beginning, end and padding.
std::shared_ptr<const Tokenizer> byte_tokenizer();

/// "<role>content</role>" for each message, with the assistant's content marked for training.
std::shared_ptr<const ChatTemplate> plain_chat_template();

}  // namespace espalier::conformance

#include "espalier/sdk/tokenizer.h"

namespace espalier {

// Out of line, so that each vtable exists once.
Tokenizer::~Tokenizer() = default;
ChatTemplate::~ChatTemplate() = default;

}  // namespace espalier

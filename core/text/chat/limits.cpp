#include "text/chat/limits.h"

#include "text/chat/item.h"

namespace espalier::text::chat {

thread_local Meter* Meter::current_ = nullptr;

void Meter::charge(std::size_t steps) {
  if (current_ == nullptr) return;
  current_->steps_ += steps;
  if (current_->steps_ > kMostSteps)
    fail("TemplateRuntimeError", "the template takes more than " + std::to_string(kMostSteps) +
                                     " steps; it may never end");
}

void Meter::charge_bytes(std::size_t bytes) {
  if (bytes > kMostOutputBytes)
    fail("MemoryError", "the template makes a text of more than " +
                            std::to_string(kMostOutputBytes >> 20U) + " MiB");
  charge(1 + bytes / 16);
}

}  // namespace espalier::text::chat

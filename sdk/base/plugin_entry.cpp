#include <cstdio>

#include "espalier/base/error.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// Runs `body`; an exception becomes its code, and its text goes to `message`.
template <class Body>
std::int32_t guarded(const Body& body, char* message, std::size_t message_size) noexcept {
  const auto failed = [&](ErrorCode code, const char* text) {
    if (message != nullptr && message_size > 0) std::snprintf(message, message_size, "%s", text);
    return static_cast<std::int32_t>(code);
  };
  try {
    body();
    return failed(ErrorCode::kOk, "");
  } catch (const Error& error) {
    return failed(error.code(), error.problems().front().what.c_str());
  } catch (const std::exception& error) {
    return failed(ErrorCode::kBadPlugin, error.what());
  } catch (...) {
    return failed(ErrorCode::kBadPlugin, "it threw something that is not a std::exception");
  }
}

}  // namespace

std::int32_t guarded_registration(void (*function)(Registrar&), void* registrar, char* message,
                                  std::size_t message_size) noexcept {
  return guarded([&] { function(*static_cast<Registrar*>(registrar)); }, message, message_size);
}

std::int32_t guarded_shutdown(void (*function)()) noexcept { return guarded(function, nullptr, 0); }

}  // namespace espalier

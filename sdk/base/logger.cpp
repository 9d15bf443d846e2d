#include "espalier/sdk/logger.h"

namespace espalier {

Logger::~Logger() = default;

void Logger::log_text(const std::string& /*name*/, std::int64_t /*step*/,
                      const std::string& /*text*/) {}

}  // namespace espalier

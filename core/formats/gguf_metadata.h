#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "espalier/base/gguf.h"

namespace espalier::formats {

/// Metadata under the name of the file's architecture ("<name>.block_count"); remembers what was
/// asked for, so that nothing is ignored silently.
class ArchitectureMetadata {
 public:
  ArchitectureMetadata(const GgufFile& file, std::string architecture);

  const GgufValue* find(const std::string& key);
  const GgufValue& at(const std::string& key);
  /// From 1 to 2^31. A list with one number for each layer is taken when all are equal.
  std::int64_t size(const std::string& key);
  std::optional<std::int64_t> optional_size(const std::string& key);
  /// More than 0. Numbers are stored as float: 1e-5 comes back as the decimal that was meant.
  double number(const std::string& key, double missing);
  /// Keys of the architecture that nobody asked for.
  std::vector<std::string> unused() const;

 private:
  std::int64_t checked(const GgufValue& value, const std::string& key) const;

  const GgufFile& file_;
  std::string prefix_;
  std::set<std::string> used_;
};

/// The shortest decimal that reads back as the float `value`; other doubles as they are.
double shortest_decimal(double value);

/// Error(kUnsupported): the file is sound, but says what a Hugging Face config can't.
[[noreturn]] void throw_unsupported_gguf(std::string what, std::string found, std::string expected,
                                         const std::string& where);

}  // namespace espalier::formats

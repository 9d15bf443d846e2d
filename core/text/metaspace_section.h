#pragma once

#include <string>

#include "text/json_node.h"

namespace espalier::text {

/// Where Metaspace puts its mark although there was no space.
enum class PrependScheme { kAlways, kFirst, kNever };

/// The settings that the pre-tokenizer and the decoder Metaspace share.
struct MetaspaceSection {
  std::string replacement;
  PrependScheme prepend_scheme = PrependScheme::kAlways;
  bool split = true;

  static MetaspaceSection read(const JsonNode& section);
};

}  // namespace espalier::text

#include "text/metaspace_section.h"

#include "espalier/base/utf8.h"

namespace espalier::text {

MetaspaceSection MetaspaceSection::read(const JsonNode& section) {
  MetaspaceSection out;
  const JsonNode replacement = section.at("replacement");
  out.replacement = replacement.as_string();
  if (count_code_points(out.replacement) != 1)
    replacement.fail("the replacement of Metaspace is not one character", out.replacement,
                     "one character");
  const std::string scheme = section.string_or("prepend_scheme", "always");
  if (scheme == "first") {
    out.prepend_scheme = PrependScheme::kFirst;
  } else if (scheme == "never") {
    out.prepend_scheme = PrependScheme::kNever;
  } else if (scheme != "always") {
    section.at("prepend_scheme").fail("unknown scheme", scheme, "always, first, never");
  }
  if (!section.bool_or("add_prefix_space", true) && out.prepend_scheme != PrependScheme::kNever)
    section.at("add_prefix_space")
        .fail("add_prefix_space does not match prepend_scheme", "false with " + scheme, "never");
  out.split = section.bool_or("split", true);
  return out;
}

}  // namespace espalier::text

#pragma once

#include <array>
#include <compare>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::plugin {

/// "1.2.3", or a prefix of it ("1.2" means 1.2.0).
struct Version {
  std::array<int, 3> numbers{};

  auto operator<=>(const Version&) const = default;  // NOLINT(modernize-use-nullptr): misread
};

/// Throws Error(kBadPlugin) when `text` is no version.
Version parse_version(std::string_view text);

/// Another plugin by id, with the versions that will do: "acme.losses >= 1.2, < 2".
struct Requirement {
  struct Bound {
    std::string relation;  ///< ">=", ">", "<=", "<" or "=="
    Version version;
  };

  std::string id;
  std::vector<Bound> bounds;  ///< all of them hold; none: any version
  std::string text;           ///< as written

  bool allows(const Version& version) const;
};

/// Throws Error(kBadPlugin) that shows the text.
Requirement parse_requirement(std::string_view text);

/// "acme.fast >= 2 | acme.plain": any of these will do, the first that is there is taken. Throws
/// as parse_requirement.
std::vector<Requirement> parse_alternatives(std::string_view text);

}  // namespace espalier::plugin

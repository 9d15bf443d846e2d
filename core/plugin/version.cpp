#include "plugin/version.h"

#include <algorithm>
#include <charconv>

#include "espalier/base/error.h"

namespace espalier::plugin {
namespace {

constexpr std::string_view kRelations[] = {">=", "<=", "==", ">", "<"};

[[noreturn]] void refuse(std::string what, std::string_view found, std::string expected) {
  throw Error(
      {ErrorCode::kBadPlugin, std::move(what), std::string(found), std::move(expected), {}, {}});
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Requirement::Bound parse_bound(std::string_view text, std::string_view whole) {
  for (const std::string_view relation : kRelations) {
    if (text.starts_with(relation))
      return {std::string(relation), parse_version(trimmed(text.substr(relation.size())))};
  }
  refuse("a requirement on another plugin is malformed", whole, "vendor.name >= 1.2, < 2");
}

}  // namespace

Version parse_version(std::string_view text) {
  Version version;
  std::size_t part = 0;
  const char* place = text.data();
  const char* const end = place + text.size();
  while (part < 3) {
    const auto [rest, error] = std::from_chars(place, end, version.numbers[part]);
    if (error != std::errc() || version.numbers[part] < 0) break;
    ++part;
    place = rest;
    if (place == end) return version;
    if (*place++ != '.') break;
  }
  refuse("a version is malformed", text, "up to three numbers, as in 1.0.2");
}

bool Requirement::allows(const Version& version) const {
  return std::all_of(bounds.begin(), bounds.end(), [&](const Bound& bound) {
    if (bound.relation == ">=") return version >= bound.version;
    if (bound.relation == "<=") return version <= bound.version;
    if (bound.relation == ">") return version > bound.version;
    if (bound.relation == "<") return version < bound.version;
    return version == bound.version;
  });
}

Requirement parse_requirement(std::string_view text) {
  Requirement requirement;
  requirement.text = trimmed(text);
  std::string_view rest = requirement.text;
  const std::size_t id_end = std::min(rest.find_first_of(" <>="), rest.size());
  requirement.id = rest.substr(0, id_end);
  if (requirement.id.empty())
    refuse("a requirement on another plugin is malformed", text, "vendor.name >= 1.2, < 2");
  rest = trimmed(rest.substr(id_end));
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    requirement.bounds.push_back(parse_bound(trimmed(rest.substr(0, comma)), text));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    rest = trimmed(rest);
  }
  return requirement;
}

std::vector<Requirement> parse_alternatives(std::string_view text) {
  std::vector<Requirement> alternatives;
  while (true) {
    const std::size_t bar = std::min(text.find('|'), text.size());
    alternatives.push_back(parse_requirement(text.substr(0, bar)));
    if (bar == text.size()) return alternatives;
    text.remove_prefix(bar + 1);
  }
}

}  // namespace espalier::plugin

#include "espalier/data/split_slice.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <string_view>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr const char* kExpected =
    "a split as in train, train[:10%], train[100:200], train[-5%:] or a sum of them";
constexpr const char* kWhere = "split";

[[noreturn]] void refuse(const std::string& what, const std::string& found) {
  throw_bad_input(what, found, kExpected, kWhere);
}

std::int64_t number(const std::string& digits, const std::string& text) {
  std::string plain;
  for (const char c : digits) {
    if (c != '_') plain += c;
  }
  constexpr std::size_t kMostDigits = 18;  // fits 64 bits
  if (plain.size() > kMostDigits) refuse("a boundary of the split is too large", text);
  return std::stoll(plain);
}

SplitSlice::Part read_part(const std::string& word, const std::string& text, std::string& name,
                           bool& whole) {
  static const std::regex kPattern(
      R"(^\s*([\w-]+(?:\.[\w-]+)*)?(\[\s*(-?[\d_]+)?\s*(%)?\s*:\s*(-?[\d_]+)?\s*(%)?\s*\](?:\((closest|pct1_dropremainder)\))?)?\s*$)");
  std::smatch match;
  if (!std::regex_match(word, match, kPattern) || (!match[1].matched && !match[2].matched))
    refuse("'split' can't be read", text);
  if (match[1].matched) name = match[1].str();
  SplitSlice::Part part;
  whole = !match[2].matched;
  if (whole) return part;
  part.has_from = match[3].matched;
  part.has_to = match[5].matched;
  if ((match[4].matched && !part.has_from) || (match[6].matched && !part.has_to))
    refuse("'split' has a % without a number", text);
  part.percent = match[4].matched || match[6].matched;
  part.drops_remainder = match[7].matched && match[7].str() != "closest";
  if (part.drops_remainder && !part.percent)
    refuse("a rounding is given for boundaries that are no percents", text);
  if (part.has_from) part.from = number(match[3].str(), text);
  if (part.has_to) part.to = number(match[5].str(), text);
  if (part.percent && (std::abs(part.from) > 100 || std::abs(part.to) > 100))
    refuse("a percent of the split is out of range", text);
  return part;
}

/// Place of a boundary in [0, size].
std::int64_t boundary(std::int64_t value, const SplitSlice::Part& part, std::int64_t size) {
  std::int64_t place = value;
  if (part.percent && part.drops_remainder) {
    place = value * (size / 100);
  } else if (part.percent) {
    // nearbyint rounds halves to even, as Python's round does.
    place = static_cast<std::int64_t>(
        std::nearbyint(static_cast<double>(value) * static_cast<double>(size) / 100.0));
  }
  // A negative percent counts from the end even where it rounds to nothing.
  if (value < 0) place += size;
  return std::clamp<std::int64_t>(place, 0, size);
}

}  // namespace

SplitSlice SplitSlice::parse(const std::string& text) {
  SplitSlice split;
  std::vector<Part> parts;
  bool all_whole = true;
  std::string first_name;
  std::size_t begin = 0;
  std::size_t words = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    std::string name = "train";
    bool whole = false;
    parts.push_back(read_part(text.substr(begin, end - begin), text, name, whole));
    all_whole = all_whole && whole;
    if (words++ == 0) {
      split.name = name;
    } else if (name != split.name) {
      throw_bad_input("a sum of splits names two of them", text, "parts of one split", kWhere,
                      "give the other split's files in 'path' too");
    }
    begin = end + 1;
  }
  if (!all_whole || words > 1) split.parts = std::move(parts);
  return split;
}

std::vector<std::pair<std::int64_t, std::int64_t>> SplitSlice::ranges(std::int64_t size) const {
  if (parts.empty()) return {{0, size}};
  std::vector<std::pair<std::int64_t, std::int64_t>> result;
  for (const Part& part : parts) {
    const std::int64_t from = part.has_from ? boundary(part.from, part, size) : 0;
    const std::int64_t to = part.has_to ? boundary(part.to, part, size) : size;
    if (from < to) result.emplace_back(from, to);
  }
  if (!result.empty()) return result;
  throw_bad_input("the split has no samples", "0 of " + std::to_string(size) + " records",
                  "at least one", kWhere, "a slice is [from:to], counted from 0, without 'to'");
}

}  // namespace espalier

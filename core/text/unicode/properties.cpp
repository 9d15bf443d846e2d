#include "text/unicode/properties.h"

#include <algorithm>
#include <memory>
#include <span>

#include "text/unicode/tables.h"

namespace espalier::text {
namespace {

using tables::CodePointRange;

std::uint16_t classes_of(tables::Category category) {
  using namespace tables;
  const std::uint16_t mark = kMark | kUpperLike | kLowerLike | kCombiningMark;
  switch (category) {
    case kLu:
    case kLt: return kLetter | kUpperLike;
    case kLl: return kLetter | kLowerLike;
    case kLm:
    case kLo: return kLetter | kUpperLike | kLowerLike;
    case kMn:
    case kMc:
    case kMe: return mark;
    case kNd:
    case kNl:
    case kNo: return kNumber | kNumeric;
    case kPc:
    case kPd:
    case kPs:
    case kPe:
    case kPi:
    case kPf:
    case kPo: return kPunctuation | kPunctuationMark;
    case kSm:
    case kSc:
    case kSk:
    case kSo: return kSymbol;
    case kZs:
    case kZl:
    case kZp: return kSpace;
    case kCc:
    case kCf:
    case kCo: return 0;
  }
  return 0;
}

/// Flat while it is filled; 2 MB that live for the construction only.
class FlatTable {
 public:
  FlatTable() : classes_(std::make_unique<std::uint16_t[]>(0x110000)) {}

  void add(std::span<const CodePointRange> ranges, std::uint16_t bits) {
    for (const auto& [first, last] : ranges)
      for (char32_t point = first; point <= last; ++point) classes_[point] |= bits;
  }
  void toggle(std::span<const CodePointRange> ranges, std::uint16_t bits) {
    for (const auto& [first, last] : ranges)
      for (char32_t point = first; point <= last; ++point) classes_[point] ^= bits;
  }
  std::uint16_t* data() { return classes_.get(); }

 private:
  std::unique_ptr<std::uint16_t[]> classes_;
};

}  // namespace

const CharClassTable& CharClassTable::get() {
  static const CharClassTable kTable;
  return kTable;
}

CharClassTable::CharClassTable() {
  FlatTable flat;
  for (const auto& [first, last, category] : tables::kCategoryRanges) {
    const CodePointRange range{first, last};
    flat.add({&range, 1}, classes_of(category));
  }
  flat.toggle(tables::kNumericDiffersFromN, kNumeric);
  flat.toggle(tables::kPunctuationDiffersFromP, kPunctuationMark);
  flat.toggle(tables::kCombiningMarkDiffersFromM, kCombiningMark);
  flat.add(tables::kWordCharacters, kWord);
  flat.add(tables::kBertControls, kBertControl);
  flat.add(tables::kBertAccents, kBertAccent);
  flat.add(tables::kJoining, kJoining);
  constexpr CodePointRange kControlSpaces[] = {{0x9, 0xD}, {0x85, 0x85}};
  flat.add(kControlSpaces, kSpace);
  constexpr CodePointRange kNewlines[] = {{'\n', '\n'}, {'\r', '\r'}};
  flat.add(kNewlines, kNewline);
  for (char32_t point = '!'; point < 0x7F; ++point) {
    const bool letter_or_digit = (flat.data()[point] & (kLetter | kNumber)) != 0;
    if (!letter_or_digit) flat.data()[point] |= kPunctuationMark;
  }

  for (std::size_t block = 0; block < index_.size(); ++block) {
    const std::uint16_t* begin = flat.data() + block * 256;
    if (!blocks_.empty() && std::equal(begin, begin + 256, blocks_.back().begin())) {
      index_[block] = static_cast<std::uint16_t>(blocks_.size() - 1);
      continue;
    }
    index_[block] = static_cast<std::uint16_t>(blocks_.size());
    std::copy(begin, begin + 256, blocks_.emplace_back().begin());
  }
}

std::vector<std::pair<char32_t, char32_t>> property_ranges(std::string_view name) {
  std::vector<std::pair<char32_t, char32_t>> ranges;
  const auto append = [&](char32_t first, char32_t last) {
    if (!ranges.empty() && ranges.back().second + 1 == first) {
      ranges.back().second = last;
    } else {
      ranges.emplace_back(first, last);
    }
  };
  if (name == "Word") {
    std::vector<bool> word(0x110000);
    for (const auto& [first, last] : tables::kWordCharacters)
      for (char32_t point = first; point <= last; ++point) word[point] = true;
    for (const auto& [first, last] : tables::kOnigWordDiffers)
      for (char32_t point = first; point <= last; ++point) word[point] = !word[point];
    for (char32_t point = 0; point < 0x110000; ++point)
      if (word[point]) append(point, point);
    return ranges;
  }
  for (const auto& [first, last, category] : tables::kCategoryRanges) {
    const std::string_view full = tables::kCategoryNames[category];
    if (full == name || full.substr(0, 1) == name) append(first, last);
  }
  return ranges;
}

int script_of(char32_t point) {
  const auto* found = std::upper_bound(
      std::begin(tables::kScripts), std::end(tables::kScripts), point,
      [](char32_t wanted, const tables::ScriptRange& range) { return wanted < range.first; });
  if (found == std::begin(tables::kScripts)) return 0;
  --found;
  return point <= found->last ? found->script : 0;
}

std::array<char32_t, 3> lowercase(char32_t point) {
  if (point < 0x80) return {point >= 'A' && point <= 'Z' ? point + 32 : point, 0, 0};
  const auto* found = std::lower_bound(
      std::begin(tables::kLowercase), std::end(tables::kLowercase), point,
      [](const tables::LowercaseMapping& row, char32_t wanted) { return row.point < wanted; });
  if (found == std::end(tables::kLowercase) || found->point != point) return {point, 0, 0};
  return {found->lower[0], found->lower[1], found->lower[2]};
}

}  // namespace espalier::text

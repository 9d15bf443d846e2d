#include "espalier/base/suggest.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace espalier {
namespace {

std::string normalised(std::string_view word) {
  std::string result(word);
  for (char& c : result)
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({last[j] + 1, current[j - 1] + 1, replace});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) current[j] = std::min(current[j], before_last[j - 2] + 1);
    }
    std::swap(before_last, last);
    std::swap(last, current);
  }
  return last[b.size()];
}

std::vector<std::string> nearest_names(std::string_view word,
                                       std::span<const std::string> candidates) {
  const std::string wanted = normalised(word);
  std::vector<std::pair<std::size_t, std::string>> scored;
  for (const std::string& candidate : candidates) {
    const std::string name = normalised(candidate);
    std::size_t distance = edit_distance(wanted, name);
    // A long common prefix is a likelier slip than the same number of edits elsewhere.
    const bool contains =
        wanted.size() >= 3 && name.size() >= 3 &&
        (name.find(wanted) != std::string::npos || wanted.find(name) != std::string::npos);
    if (contains) distance = std::min<std::size_t>(distance, 1);
    const std::size_t limit =
        std::max<std::size_t>(1, (std::max(wanted.size(), name.size()) + 1) / 3);
    if (distance <= limit) scored.emplace_back(distance, candidate);
  }
  std::stable_sort(scored.begin(), scored.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (auto& [distance, name] : scored) {
    if (names.size() < 3 && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  }
  return names;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates) {
  const std::vector<std::string> names = nearest_names(word, candidates);
  if (names.empty()) return {};
  std::string text = "did you mean '" + names.front() + "'";
  for (std::size_t i = 1; i < names.size(); ++i)
    text += (i + 1 == names.size() ? " or '" : ", '") + names[i] + "'";
  return text + "?";
}

std::string join_names(std::span<const std::string> names, bool quoted) {
  std::string text;
  for (const std::string& name : names) {
    if (!text.empty()) text += ", ";
    text += quoted ? "'" + name + "'" : name;
  }
  return text;
}

}  // namespace espalier

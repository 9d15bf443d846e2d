#include "tools/wordnet_dictionary.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <tuple>

#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier::wordnet {
namespace {

constexpr const char* kHint = "install it with: apt-get install wordnet-base";

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0; begin < line.size();) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    if (end > begin) fields.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return fields;
}

std::optional<std::size_t> number(std::string_view text, int base = 10) {
  std::size_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void throw_damaged(std::string_view line, const std::string& path) {
  throw_bad_input("a line of the dictionary is damaged", std::string(line.substr(0, 80)),
                  "WordNet 3's format", path, kHint);
}

std::string with_blanks(std::string_view word) {
  std::string text(word);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

/// The files of one part of speech.
class Part {
 public:
  Part(const std::string& folder, const std::string& suffix, std::string name)
      : name_(std::move(name)),
        index_path_((std::filesystem::path(folder) / ("index." + suffix)).string()),
        data_path_((std::filesystem::path(folder) / ("data." + suffix)).string()),
        index_(read_file(index_path_)),
        data_(read_file(data_path_)) {}

  void read(std::vector<Definition>& definitions) const {
    for (std::size_t begin = 0; begin < index_.size();) {
      const std::size_t end = std::min(index_.find('\n', begin), index_.size());
      const std::string_view line = std::string_view(index_).substr(begin, end - begin);
      begin = end + 1;
      if (line.empty() || line.front() == ' ') continue;  // the licence
      definitions.push_back(define(line));
    }
  }

 private:
  /// lemma pos synsets pointers symbol... senses tagged offset...
  Definition define(std::string_view line) const {
    const std::vector<std::string_view> fields = split(line);
    const std::optional<std::size_t> pointers =
        fields.size() > 3 ? number(fields[3]) : std::nullopt;
    if (!pointers || *pointers > fields.size() || fields.size() < 7 + *pointers)
      throw_damaged(line, index_path_);
    const std::optional<std::size_t> offset = number(fields[6 + *pointers]);
    if (!offset || *offset >= data_.size()) throw_damaged(line, index_path_);
    Definition definition;
    definition.lemma = with_blanks(fields[0]);
    definition.part_of_speech = name_;
    definition.synset = name_ + " " + std::to_string(*offset);
    read_synset(*offset, definition);
    return definition;
  }

  /// offset file type words (word id)... pointers (symbol offset pos source)... | gloss
  void read_synset(std::size_t offset, Definition& definition) const {
    const std::size_t end = std::min(data_.find('\n', offset), data_.size());
    const std::string_view line = std::string_view(data_).substr(offset, end - offset);
    const std::size_t bar = line.find(" | ");
    const std::vector<std::string_view> fields = split(line.substr(0, bar));
    const std::optional<std::size_t> words =
        fields.size() > 3 ? number(fields[3], 16) : std::nullopt;
    if (bar == std::string_view::npos || !words || fields.size() < 5 + 2 * *words ||
        number(fields[0]) != offset)
      throw_damaged(line, data_path_);
    definition.gloss = line.substr(bar + 3);
    definition.word = definition.lemma;
    for (std::size_t i = 0; i < *words; ++i) {
      std::string_view word = fields[4 + 2 * i];
      word = word.substr(0, word.find('('));  // adjectives may say where they stand: "galore(ip)"
      if (lower(with_blanks(word)) == definition.lemma) definition.word = with_blanks(word);
    }
    definition.is_name = std::find(fields.begin() + static_cast<std::ptrdiff_t>(5 + 2 * *words),
                                   fields.end(), "@i") != fields.end();
  }

  std::string name_;
  std::string index_path_;
  std::string data_path_;
  std::string index_;
  std::string data_;
};

}  // namespace

std::vector<Definition> read_dictionary(const std::string& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw Error(Problem{.code = ErrorCode::kIo,
                        .what = "the WordNet dictionary was not found",
                        .expected = "a folder with index.noun, data.noun, ...",
                        .where = folder,
                        .hint = std::string(kHint) + "; or name its folder with --dictionary"});
  }
  static constexpr std::pair<const char*, const char*> kParts[] = {
      {"noun", "noun"}, {"verb", "verb"}, {"adj", "adjective"}, {"adv", "adverb"}};
  std::vector<Definition> definitions;
  for (const auto& [suffix, name] : kParts) Part(folder, suffix, name).read(definitions);
  std::sort(definitions.begin(), definitions.end(), [](const Definition& a, const Definition& b) {
    return std::tie(a.lemma, a.part_of_speech) < std::tie(b.lemma, b.part_of_speech);
  });
  return definitions;
}

std::string clean_gloss(std::string_view gloss) {
  // Examples stand in quotes after the definition: 'settle by concession; "they settled"'.
  std::string_view text = gloss.substr(0, gloss.find('"'));
  const bool has_examples = text.size() != gloss.size();
  const std::size_t last = text.find_last_not_of(" ;:,");
  if (last == std::string_view::npos) return {};
  // A quote right after a word belongs to the definition itself.
  if (has_examples && text.find_first_of(";:,", last) == std::string_view::npos) return {};
  text = text.substr(text.find_first_not_of(' '));
  text = text.substr(0, text.find_last_not_of(" ;:,") + 1);
  std::string clean;
  int open = 0;
  for (const char c : text) {
    if (c == '`') return {};
    if (c == '(') ++open;
    if (c == ')' && --open < 0) return {};
    if (c != ' ' || (!clean.empty() && clean.back() != ' ')) clean += c;
  }
  return open == 0 ? clean : std::string();
}

}  // namespace espalier::wordnet

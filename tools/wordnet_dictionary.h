#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::wordnet {

/// The most frequent sense of one word as one part of speech.
struct Definition {
  std::string lemma;           ///< lower case, blanks between words; equal over parts of speech
  std::string word;            ///< as written: "Monday", "ice cream"
  std::string part_of_speech;  ///< "noun", "verb", "adjective", "adverb"
  std::string gloss;           ///< as in the dictionary, with examples
  std::string synset;          ///< equal for synonyms
  bool is_name = false;        ///< of one person, place, ...: an instance, not a kind
};

/// Reads index.* and data.* of a WordNet 3 folder, sorted by lemma and part of speech. Error(kIo)
/// for a missing file, Error(kBadInput) for a damaged one.
std::vector<Definition> read_dictionary(const std::string& folder);

/// The definition without its example sentences; empty when it can't be told apart from them.
std::string clean_gloss(std::string_view gloss);

}  // namespace espalier::wordnet

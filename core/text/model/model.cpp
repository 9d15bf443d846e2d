#include "text/model/model.h"

namespace espalier::text {
namespace {

struct ModelType {
  std::string_view name;
  std::unique_ptr<Model> (*make)(const JsonNode& section, bool byte_level_words);
};

constexpr ModelType kTypes[] = {
    {"BPE", make_bpe},
    {"Unigram", [](const JsonNode& section, bool) { return make_unigram(section); }},
    {"WordPiece", [](const JsonNode& section, bool) { return make_word_piece(section); }},
    {"WordLevel", [](const JsonNode& section, bool) { return make_word_level(section); }},
};

/// Files from before the key `type` existed are told apart by the keys that they have.
std::string guessed_type(const JsonNode& section) {
  if (section.find("merges")) return "BPE";
  if (section.find("max_input_chars_per_word")) return "WordPiece";
  const auto vocab = section.find("vocab");
  if (vocab && vocab->is_array()) return "Unigram";
  if (vocab && section.find("unk_token")) return "WordLevel";
  return section.at("type").as_string();
}

}  // namespace

std::unique_ptr<Model> make_model(const JsonNode& section, bool byte_level_words) {
  const auto type = section.find("type");
  const std::string name = type ? type->as_string() : guessed_type(section);
  std::string known;
  for (const ModelType& candidate : kTypes) {
    if (candidate.name == name) return candidate.make(section, byte_level_words);
    known += (known.empty() ? "" : ", ") + std::string(candidate.name);
  }
  section.at("type").fail("unknown type of model", name, known);
}

}  // namespace espalier::text

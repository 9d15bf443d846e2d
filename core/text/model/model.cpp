#include "text/model/model.h"

namespace espalier::text {
namespace {

struct ModelType {
  std::string_view name;
  std::unique_ptr<Model> (*make)(const JsonNode& section, bool byte_level_words);
};

constexpr ModelType kTypes[] = {{"BPE", make_bpe}};

}  // namespace

std::unique_ptr<Model> make_model(const JsonNode& section, bool byte_level_words) {
  // Files from before the key existed hold BPE models, which have merges.
  const auto type = section.find("type");
  const std::string name = type                     ? type->as_string()
                           : section.find("merges") ? "BPE"
                                                    : section.at("type").as_string();
  std::string known;
  for (const ModelType& candidate : kTypes) {
    if (candidate.name == name) return candidate.make(section, byte_level_words);
    known += (known.empty() ? "" : ", ") + std::string(candidate.name);
  }
  section.at("type").fail("unknown type of model", name, known);
}

}  // namespace espalier::text

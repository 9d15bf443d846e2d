#include "engine/run/freezing.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier {
namespace {

constexpr std::array<std::string_view, 3> kVision = {"vision", "visual", "image_encoder"};
constexpr std::array<std::string_view, 3> kAudio = {"audio", "speech", "sound"};
constexpr std::array<std::string_view, 3> kLanguage = {"language", "text", "llm"};

bool matches(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

/// Whether a module that the parameter is in has one of the words in its name.
bool is_in_tower(const std::string& name, std::span<const std::string_view> words) {
  const std::string modules = name.substr(0, name.rfind('.'));
  return std::any_of(words.begin(), words.end(), [&](std::string_view word) {
    return modules.find(word) != std::string::npos;
  });
}

void check_patterns(const std::vector<std::string>& patterns, const char* key, Model& model,
                    ProblemList& problems) {
  std::vector<std::string> names;
  for (const auto& parameter : model.parts().parameters) names.push_back(parameter->name());
  for (const std::string& pattern : patterns) {
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return matches({pattern}, name); }))
      continue;
    std::string hint = did_you_mean(pattern, names);
    if (hint.empty() && !names.empty())
      hint = "the names are those of the checkpoint, e.g. " + names.front();
    problems.add({ErrorCode::kBadInput, "a pattern matches no parameter of the model", pattern,
                  "a parameter name with '*' and '?' as wildcards",
                  std::string("freeze_config.") + key, hint});
  }
}

}  // namespace

void freeze_parameters(Model& model, const config::FreezeConfig& config) {
  ProblemList problems;
  check_patterns(config.patterns, "patterns", model, problems);
  check_patterns(config.except, "except", model, problems);
  const auto freeze_tower = [&](bool wanted, std::span<const std::string_view> words,
                                const char* key) {
    bool found = false;
    for (const auto& parameter : model.parts().parameters) {
      if (!wanted || !is_in_tower(parameter->name(), words)) continue;
      found = true;
      if (!matches(config.except, parameter->name())) parameter->set_trainable(false);
    }
    if (wanted && !found && key != nullptr)
      problems.add({ErrorCode::kBadInput,
                    "the model has no such part",
                    key,
                    {},
                    std::string("freeze_config.") + key,
                    "name the parameters in patterns"});
  };
  freeze_tower(config.freeze_vision_tower, kVision, nullptr);
  freeze_tower(config.freeze_audio_tower, kAudio, "freeze_audio_tower");
  freeze_tower(config.freeze_language_model, kLanguage, "freeze_language_model");
  problems.throw_if_any();
  for (const auto& parameter : model.parts().parameters) {
    if (matches(config.patterns, parameter->name()) && !matches(config.except, parameter->name()))
      parameter->set_trainable(false);
  }
}

}  // namespace espalier

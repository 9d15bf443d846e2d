#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier {

/// A component that the front end chose, with its checked config.
struct ChosenComponent {
  plugin::ComponentRef component;
  Value config;
};

/// The kernel pack that a recipe names is under this key of the components; those that are used
/// where they can run are under keys that go on with a dot.
inline constexpr const char* kKernelsSection = "kernels";

/// The formats of a model's files, where a plugin reads them: after the model's section.
inline constexpr const char* kTokenizerFormat = ".tokenizer";
inline constexpr const char* kCheckpointFormat = ".checkpoint_format";

/// The section of an adapter that is switched by name.
inline std::string adapter_section(const std::string& name) { return "peft=" + name; }

/// What the front end asks of the engine. Both are of one build and share espalier_base, so plain
/// C++ types pass.
struct EngineRequest {
  std::string command;  ///< "score", "train", ...
  Value options;        ///< a table; each command knows its own
  std::vector<std::shared_ptr<const plugin::Plugin>> plugins;  ///< in the order of loading
  std::map<std::string, ChosenComponent>
      components;  ///< by recipe section: "model", "dataset", ...
  /// Where a command puts what it gives back beside its exit code; nullptr: nobody asks.
  std::shared_ptr<Value> answer;
};

/// Exported by libespalier_engine.so under this name. Returns the exit code; throws Error.
using EngineEntry = int (*)(const EngineRequest& request);
inline constexpr const char* kEngineEntryName = "espalier_engine_run";

}  // namespace espalier

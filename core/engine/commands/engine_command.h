#pragma once

#include "espalier/sdk/adapter.h"
#include "espalier/sdk/model.h"
#include "plugin/engine_request.h"
#include "plugin/plugin_host.h"

namespace espalier {

/// A request with its plugins loaded.
struct EngineCall {
  const EngineRequest& request;
  plugin::PluginHost& host;

  /// Option of the command; a null Value when it was not given.
  const Value& option(const std::string& name) const;
  bool flag(const std::string& name) const;
  std::string text(const std::string& name) const;
  /// Makes the component that the front end chose for a section.
  template <class I>
  std::shared_ptr<I> create(const std::string& section) const {
    const ChosenComponent& chosen = request.components.at(section);
    return host.create<I>(chosen.component, chosen.config);
  }
  /// The adapter of a section, or nullptr where the request has none.
  std::shared_ptr<Adapter> adapter(const std::string& section) const;
};

// One function a command; each returns the exit code.
int run_adapter(const EngineCall& call);
int run_chat(const EngineCall& call);
int run_conformance(const EngineCall& call);
int run_data_inspect(const EngineCall& call);
int run_recipe_new(const EngineCall& call);
int run_score(const EngineCall& call);
int run_machine(const EngineCall& call);
int run_models_inspect(const EngineCall& call);
int run_kernels(const EngineCall& call);
int run_parity(const EngineCall& call);
int run_estimate(const EngineCall& call);
int run_export(const EngineCall& call);
int run_generate(const EngineCall& call);
int run_train(const EngineCall& call);

}  // namespace espalier

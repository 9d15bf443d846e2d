#pragma once

#include <string>
#include <vector>

#include "app/options.h"
#include "config/host_config.h"
#include "config/recipe.h"
#include "plugin/catalog.h"
#include "plugin/engine_request.h"
#include "plugin/model_provider.h"

namespace espalier::app {

/// Resolves `model` (a folder or a hub id) and puts folder and provider into the request.
void add_model(EngineRequest& request, const plugin::Catalog& catalog, const std::string& model,
               const plugin::ProviderChoice& choice = {});

/// What a recipe's [model] says about it.
plugin::ProviderChoice provider_choice(const config::ModelConfig& model);

/// Declares --device, which every command has that computes.
void add_device_option(Options& options, std::string& device);

/// The same for a model beside it, in the section NAME_model (a recipe's [teacher_model]); nothing
/// for "".
void add_further_model(EngineRequest& request, const plugin::Catalog& catalog,
                       const std::string& name, const std::string& model);

/// Puts everything that a recipe's run is made of into the request: its components, model and
/// teacher.
void add_recipe(EngineRequest& request, const plugin::Catalog& catalog,
                const config::ResolvedRecipe& recipe);

/// Puts the folder of an adapter and the component that reads it into the request; nothing for "".
void add_adapter(EngineRequest& request, const plugin::Catalog& catalog, const std::string& folder);

/// The same for adapters given as NAME=DIR, which are switched by name; a single one may be given
/// as DIR. Throws Error(kBadInput) for several without names, and for a name that is given twice.
void add_adapters(EngineRequest& request, const plugin::Catalog& catalog,
                  const std::vector<std::string>& given);

/// Orders the plugins of all chosen components, opens the engine and runs the request.
int run_engine(EngineRequest request, const plugin::Catalog& catalog);

/// The end of a command about one model: finds the plugins, adds model and adapter ("": none),
/// runs.
int run_on_model(EngineRequest request, const plugin::CatalogOptions& plugins,
                 const std::string& model, const std::string& adapter);

/// Whether this build has one.
bool has_engine();
/// Opens it, and LibTorch with it, without running anything.
void open_engine();
/// Runs a request whose plugins are in order already. Throws Error(kUnsupported) without an engine.
int call_engine(const EngineRequest& request);

}  // namespace espalier::app

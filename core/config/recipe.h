#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/host_config.h"
#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier::config {

/// A recipe as written, with overrides and environment variables filled in; not checked yet.
struct Recipe {
  std::string path;
  Value tree;  ///< a table; every value knows where it was written
  /// In the form of NeMo Automodel; resolve_recipe translates it.
  bool reference = false;
};

/// `overrides` are words like "--optimizer.lr=2e-4". A name that ends in .yaml or .yml is read as
/// YAML: in our form, or in Automodel's, where overrides name its keys. Throws Error with all
/// problems.
Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides = {});

/// The same for a text; `path` is for messages.
Recipe parse_recipe(std::string_view text, const std::string& path,
                    const std::vector<std::string>& overrides = {});

/// One component that a run is made of.
struct ComponentUse {
  std::string path;  ///< where the recipe names it: "optimizer", "dataset.mixed_with[1]"
  plugin::ComponentRef component;
  Value config;  ///< checked and complete with defaults
};

/// A checked recipe: everything that a run needs to know before LibTorch is loaded.
struct ResolvedRecipe {
  Value tree;  ///< with the default of every key; dump_toml gives recipe.resolved.toml
  RunConfig run;
  ModelConfig model;
  DataloaderConfig dataloader;
  PackedSequenceConfig packed_sequence;
  StepSchedulerConfig step_scheduler;
  ClipGradNormConfig clip_grad_norm;
  CheckpointConfig checkpoint;
  std::vector<ComponentUse> components;
  std::vector<std::string> warnings;  ///< deprecated keys in use

  /// nullptr when the recipe has no component there.
  const ComponentUse* find(std::string_view path) const;
  /// Plugins of the components, each once.
  std::vector<std::shared_ptr<const plugin::Plugin>> plugins() const;
};

/// Checks every section against its schema, those of components against the manifests of their
/// plugins; no plugin code runs. Throws Error with all problems: unknown sections and keys, wrong
/// types, values out of range, unknown components, missing keys, each with its position.
ResolvedRecipe resolve_recipe(const Recipe& recipe, const plugin::Catalog& catalog);

}  // namespace espalier::config

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/optimizer.h"

namespace espalier {

/// Where a forward pass stands in a run. An adapter's randomness (dropout) is a function of this,
/// the site and the element alone, so that recomputing a pass or resuming a run draws the same
/// numbers.
struct PassPosition {
  std::uint64_t seed = 0;
  std::int64_t step = 0;         ///< from 1
  std::int64_t micro_batch = 0;  ///< within the step
  bool training = false;         ///< false: no dropout
};

/// The whole value of a parameter, where what this process holds may be a part.
using WholeValue = std::function<at::Tensor(const Parameter&)>;

/// What the process holds is the whole.
inline at::Tensor held_value(const Parameter& parameter) { return parameter.value().detach(); }

/// Trains few parameters beside a frozen model (recipe section `peft`). `attach` runs while the
/// model is on the meta device and selects extension points by name; `initialise` runs when all
/// weights have values, or before where the adapter does not look at them. A component says which
/// files it reads with serves("peft_types", {...}): the values of `peft_type` in
/// adapter_config.json. One thread at a time.
class ESPALIER_API Adapter {
 public:
  static constexpr InterfaceId kInterface{"Adapter", 5};

  Adapter() = default;
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;
  virtual ~Adapter();

  /// Takes the settings of a folder in PEFT's format in place of the config's, and its values at
  /// `initialise`. Before `attach`. Throws Error(kBadInput) for a folder that is no such thing.
  virtual void open(const std::string& folder) = 0;
  /// Adds extensions to the model's linears, embeddings and attention cores, and freezes the
  /// model's own parameters. Throws Error(kBadInput) for a pattern that matches nothing.
  virtual void attach(Model& model) = 0;
  /// Gives the adapter's parameters their values: from the opened folder, or new ones from `seed`.
  /// They may be on the CPU: the host moves them to the model's device.
  virtual void initialise(Model& model, std::uint64_t seed) = 0;
  /// Whether `initialise` looks at no weight of the model it is attached to: it may then be called
  /// while these are on the meta device, so that of a model that ranks share each reads its part
  /// alone.
  virtual bool initialises_without_weights() const { return false; }
  /// Whether training draws random numbers for each token (dropout), so that documents that begin
  /// alike differ all the same: the host then lets no rows be shared (SharedRows).
  virtual bool draws_for_tokens() const { return false; }

  /// What is trained, each under the name of its tensor in the adapter's file.
  virtual const std::vector<std::shared_ptr<Parameter>>& parameters() const = 0;
  /// Layout in the adapter's file, one for each of `parameters`.
  virtual const std::vector<DiskMapping>& mappings() const = 0;
  /// Parameters with a learning rate of their own; patterns as in an optimizer's groups, which come
  /// before these.
  virtual std::vector<ParameterGroupConfig> parameter_groups() const { return {}; }

  /// Announces the next forward pass.
  virtual void begin_pass(const PassPosition& position) = 0;
  /// Whether a new adapter leaves what the model computes as it was. Tokens and keys that are put
  /// before a text do not.
  virtual bool starts_as_identity() const { return true; }
  /// Switched off, the model computes what it did before `attach`.
  virtual void set_enabled(bool enabled) = 0;
  virtual bool enabled() const = 0;
  /// What PEFT calls disabled, for comparisons with its dumps: biases that are trained stay.
  virtual void disable_as_peft() { set_enabled(false); }

  /// Writes adapter_config.json and adapter_model.safetensors into a folder that exists.
  /// `base_model` is the hub id or folder that the adapter belongs to; all values, those of the
  /// model's own parameters too, come from `value`. Throws Error(kIo).
  virtual void save(const std::string& folder, const std::string& base_model,
                    const WholeValue& value) const = 0;
  /// Puts the adapter's effect into the model's own weights and switches the adapter off. Throws
  /// Error(kUnsupported) where the weights can't hold it (a tied weight of which one use changes).
  virtual void merge(Model& model) = 0;
  /// Takes the effect out of weights that hold it and switches the adapter off: the inverse of
  /// `merge`, to rounding. Throws Error(kUnsupported) where merging lost what was there.
  virtual void unmerge(Model& model) = 0;
  /// Sets the parameters to what comes nearest to the difference between `tuned` and `model`, which
  /// the adapter is attached to. Returns the norm of what is left over as a share of the whole
  /// difference. Throws Error(kUnsupported) unless overridden.
  virtual double extract(Model& model, Model& tuned);
};

}  // namespace espalier

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/base/registrar.h"

namespace c10d {
class Store;
}

namespace espalier {

/// A collective under way. The tensors that it was given stay untouched until `wait` returns.
class ESPALIER_API Work {
 public:
  Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
  virtual ~Work();

  /// Returns when the result is there; may be called again. Throws Error(kPeerFailed) when another
  /// rank ended, or did not take part in time.
  virtual void wait() = 0;
};

/// Some ranks that compute together. Every rank of the group makes the same calls in the same
/// order, with tensors of equal sizes and dtype, contiguous, on the device of the run. `what` names
/// the collective in messages ("gradients"). One thread at a time.
class ESPALIER_API Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator();

  /// Place in the group, [0, size).
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// The sum over all ranks, in place.
  virtual std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char* what) = 0;
  /// `output` [size * n] are the inputs [n] in the order of the ranks.
  virtual std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                           const char* what) = 0;
  /// `output` [n] is part `rank` of the sum of the inputs [size * n].
  virtual std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                               const char* what) = 0;
  /// `tensor` of the rank `root` of the group, to all.
  virtual std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char* what) = 0;

  /// Returns when every rank has called it.
  void barrier(const char* what);
};

/// What a backend needs to connect the ranks of one group.
struct GroupSetup {
  std::string name;                       ///< unique in the run, the same on all ranks
  c10::intrusive_ptr<c10d::Store> store;  ///< of this group alone
  int rank = 0;                           ///< place in the group
  int size = 1;
  std::string address;                   ///< of this host, as the other ranks reach it
  bool one_host = false;                 ///< all ranks of the group run on this host
  std::chrono::milliseconds timeout{0};  ///< of a collective
};

/// Moves tensors between ranks (recipe section `dist_env`). Its config derives from DistEnvConfig.
class ESPALIER_API CommBackend {
 public:
  static constexpr InterfaceId kInterface{"CommBackend", 1};

  CommBackend() = default;
  CommBackend(const CommBackend&) = delete;
  CommBackend& operator=(const CommBackend&) = delete;
  virtual ~CommBackend();

  /// How long a collective may wait for a rank that is alive.
  virtual std::chrono::milliseconds timeout() const = 0;
  /// How long a rank may give no sign of life: a process that was killed or stopped, a machine or
  /// a network that is down.
  virtual std::chrono::milliseconds peer_timeout() const = 0;
  /// Called by all ranks of the group. Throws Error(kPeerFailed) when they can't be connected.
  virtual std::shared_ptr<Communicator> connect(const GroupSetup& setup) = 0;
};

/// Settings that every backend has.
struct DistEnvConfig {
  double timeout_minutes = 10;
  double peer_timeout_seconds = 20;

  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<std::int64_t>(timeout_minutes * 60'000));
  }
  std::chrono::milliseconds peer_timeout() const {
    return std::chrono::milliseconds(static_cast<std::int64_t>(peer_timeout_seconds * 1'000));
  }

  template <class Config>
  static ConfigSchema<Config> schema_of() {
    return ConfigSchema<Config>()
        .field("timeout_minutes", &DistEnvConfig::timeout_minutes,
               "how long a rank waits for the others in one collective")
        .more_than(0)
        .field("peer_timeout_seconds", &DistEnvConfig::peer_timeout_seconds,
               "how long a process of the run may give no sign of life")
        .at_least(3);
  }
};

/// All processes of a run.
class ESPALIER_API World {
 public:
  World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  virtual ~World();

  /// Of all ranks; with one rank its collectives copy.
  virtual const std::shared_ptr<Communicator>& all() = 0;
  /// The group of some ranks of the world, rising. Every rank of the world calls it, in the same
  /// order; those that are not in the group get nullptr.
  virtual std::shared_ptr<Communicator> group(const std::string& name,
                                              const std::vector<int>& ranks) = 0;
  /// For messages: the step that the ranks are in, from 1.
  virtual void begin_step(std::int64_t step);
  int rank() { return all()->rank(); }
  int size() { return all()->size(); }
};

/// A group of one rank: collectives are copies, done at once.
ESPALIER_API std::shared_ptr<Communicator> solo_communicator();

/// The world of a single process.
ESPALIER_API std::unique_ptr<World> solo_world();

}  // namespace espalier

// Ways for ranks on CPUs to talk: over TCP, through shared memory, or whichever fits a group.
#include "espalier/base/error.h"
#include "espalier/sdk/communicator.h"
#include "espalier/sdk/plugin.h"
#include "gloo_communicator.h"
#include "shared_memory_communicator.h"

namespace espalier {
namespace {

struct GlooConfig : DistEnvConfig {
  std::string interface;

  static ConfigSchema<GlooConfig> schema() {
    return DistEnvConfig::schema_of<GlooConfig>().field(
        "interface", &GlooConfig::interface,
        "network interface, e.g. eth0; default: the one that leads to rank 0");
  }
};

struct SharedMemoryConfig : DistEnvConfig {
  static ConfigSchema<SharedMemoryConfig> schema() {
    return DistEnvConfig::schema_of<SharedMemoryConfig>();
  }
};

template <class C>
class ConfiguredBackend : public CommBackend {
 public:
  using Config = C;

  explicit ConfiguredBackend(C config) : config_(std::move(config)) {}
  std::chrono::milliseconds timeout() const override { return config_.timeout(); }
  std::chrono::milliseconds peer_timeout() const override { return config_.peer_timeout(); }

 protected:
  const C& config() const { return config_; }

 private:
  C config_;
};

class Gloo final : public ConfiguredBackend<GlooConfig> {
 public:
  using ConfiguredBackend::ConfiguredBackend;
  std::shared_ptr<Communicator> connect(const GroupSetup& setup) override {
    return connect_gloo(setup, config().interface);
  }
};

class SharedMemory final : public ConfiguredBackend<SharedMemoryConfig> {
 public:
  using ConfiguredBackend::ConfiguredBackend;
  std::shared_ptr<Communicator> connect(const GroupSetup& setup) override {
    if (!setup.one_host) {
      throw Error(Problem{ErrorCode::kUnsupported,
                          "ranks on several hosts share no memory",
                          "group " + setup.name,
                          {},
                          "dist_env.type",
                          "type = \"gloo\" talks over TCP"});
    }
    return connect_shared_memory(setup);
  }
};

class Automatic final : public ConfiguredBackend<GlooConfig> {
 public:
  using ConfiguredBackend::ConfiguredBackend;
  std::shared_ptr<Communicator> connect(const GroupSetup& setup) override {
    return setup.one_host ? connect_shared_memory(setup) : connect_gloo(setup, config().interface);
  }
};

void register_components(Registrar& registrar) {
  registrar.add<CommBackend, Gloo>("gloo", "collectives over TCP").alias("gloo");
  registrar.add<CommBackend, SharedMemory>("shared_memory",
                                           "collectives of ranks on one host, through its memory");
  registrar
      .add<CommBackend, Automatic>(
          "host_or_network", "through shared memory where a group is on one host, else over TCP")
      .property("default_for", "dist_env")
      .alias("nccl")
      .alias("default");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.comm_cpu", "0.1.0", espalier::register_components)

// Ranks on GPUs talk over NCCL. The plugin loads on machines without a GPU, where it says that it
// can't connect.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string>

#include "espalier/sdk/communicator.h"
#include "espalier/sdk/plugin.h"
#include "nccl_communicator.h"
#include "nccl_library.h"

namespace espalier {
namespace {

struct NcclConfig : DistEnvConfig {
  static ConfigSchema<NcclConfig> schema() { return DistEnvConfig::schema_of<NcclConfig>(); }
};

/// The process's number on its host, as the engine finds it; GPUs are taken in this order.
int local_rank() {
  for (const char* name : {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

class Nccl final : public CommBackend {
 public:
  using Config = NcclConfig;

  /// Throws Error(kUnsupported) where there is no GPU or no NCCL: before any rank waits.
  explicit Nccl(const NcclConfig& config) : config_(config) {
    nccl::library();
    int devices = 1;
    cudaGetDeviceCount(&devices);
    cudaSetDevice(local_rank() % devices);
  }

  std::chrono::milliseconds timeout() const override { return config_.timeout(); }
  std::chrono::milliseconds peer_timeout() const override { return config_.peer_timeout(); }
  std::shared_ptr<Communicator> connect(const GroupSetup& setup) override {
    return nccl::connect(setup);
  }

 private:
  NcclConfig config_;
};

void register_components(Registrar& registrar) {
  registrar.add<CommBackend, Nccl>("nvidia_nccl", "collectives of GPUs, over NCCL");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.comm_nccl", "0.1.0", espalier::register_components)

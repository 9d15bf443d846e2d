#include "launch/rank_environment.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "espalier/base/error.h"

namespace espalier::launch {
namespace {

/// Where one launcher says what.
struct Names {
  const char* source;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;
};

constexpr Names kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Names kOpenMpi = {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                            "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kSlurm = {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID",
                          "SLURM_NTASKS_PER_NODE"};

class Reader {
 public:
  explicit Reader(const EnvironmentLookup& lookup) : lookup_(lookup) {}

  bool has(const char* name) const {
    const char* value = lookup_(name);
    return value != nullptr && *value != '\0';
  }
  std::string text(const char* name) const { return has(name) ? lookup_(name) : ""; }

  int number(const char* name, std::optional<int> fallback, int least, int most) {
    if (!has(name)) {
      if (fallback) return *fallback;
      add(name, "the variable is not set", {}, least, most);
      return least;
    }
    const std::string value = text(name);
    int number = 0;
    const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (failure != std::errc() || end != value.data() + value.size() || number < least ||
        number > most) {
      add(name, "the variable has a value that can't be", value, least, most);
      return least;
    }
    return number;
  }

  void throw_if_any() const { problems_.throw_if_any(); }

 private:
  void add(const char* name, const std::string& what, const std::string& found, int least,
           int most) {
    problems_.add({ErrorCode::kBadInput, what, found,
                   "a whole number from " + std::to_string(least) + " to " + std::to_string(most),
                   std::string("environment variable ") + name,
                   "start the run with --nproc-per-node, torchrun, srun or mpirun, which set it; "
                   "unset all of them to train in one process"});
  }

  const EnvironmentLookup& lookup_;
  ProblemList problems_;
};

constexpr int kMostRanks = 1 << 20;

RankEnvironment read(Reader& reader, const Names& names) {
  RankEnvironment environment;
  environment.source = names.source;
  environment.world_size = reader.number(names.world_size, std::nullopt, 1, kMostRanks);
  environment.rank = reader.number(names.rank, std::nullopt, 0, environment.world_size - 1);
  environment.local_world_size =
      reader.number(names.local_world_size, environment.world_size, 1, environment.world_size);
  environment.local_rank =
      reader.number(names.local_rank, environment.rank % environment.local_world_size, 0,
                    environment.local_world_size - 1);
  return environment;
}

/// Jobs that share a host get ports of their own: they differ in the job's number.
int slurm_port(const std::string& job) {
  constexpr int kFirst = 15000;
  constexpr int kCount = 10000;
  return kFirst + static_cast<int>(std::strtol(job.c_str(), nullptr, 10) % kCount);
}

}  // namespace

std::string first_slurm_host(const std::string& list) {
  const std::size_t bracket = list.find('[');
  const std::size_t comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const std::size_t end = list.find_first_of(",-]", bracket + 1);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

RankEnvironment read_rank_environment(const EnvironmentLookup& lookup) {
  Reader reader(lookup);
  RankEnvironment environment;
  if (reader.has(kTorchrun.rank) || reader.has(kTorchrun.world_size)) {
    environment = read(reader, kTorchrun);
  } else if (reader.has(kOpenMpi.rank)) {
    environment = read(reader, kOpenMpi);
  } else if (reader.has("SLURM_STEP_ID") && reader.has(kSlurm.rank)) {
    // Without a step this is the batch script itself, which runs once whatever the job's size.
    environment = read(reader, kSlurm);
    environment.master_address = first_slurm_host(reader.text("SLURM_STEP_NODELIST"));
    environment.master_port = slurm_port(reader.text("SLURM_JOB_ID"));
  } else {
    return environment;
  }
  if (reader.has("MASTER_ADDR")) environment.master_address = reader.text("MASTER_ADDR");
  environment.master_port = reader.number("MASTER_PORT", environment.master_port, 1, 65535);
  environment.store_is_outside = reader.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (reader.has("ESPALIER_LISTEN_DESCRIPTOR") && environment.rank == 0)
    environment.listen_descriptor = reader.number("ESPALIER_LISTEN_DESCRIPTOR", 0, 0, kMostRanks);
  reader.throw_if_any();
  return environment;
}

RankEnvironment read_rank_environment() {
  return read_rank_environment([](const char* name) { return std::getenv(name); });
}

}  // namespace espalier::launch

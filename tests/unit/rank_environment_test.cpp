#include "launch/rank_environment.h"

#include <gtest/gtest.h>

#include <map>

#include "espalier/base/error.h"

namespace espalier::launch {
namespace {

RankEnvironment read(const std::map<std::string, std::string>& variables) {
  return read_rank_environment([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(RankEnvironment, WithoutALauncherTheProcessIsAlone) {
  const RankEnvironment environment = read({});
  EXPECT_EQ(environment.rank, 0);
  EXPECT_EQ(environment.world_size, 1);
}

TEST(RankEnvironment, TorchrunsVariablesAreRead) {
  const RankEnvironment environment = read({{"RANK", "5"},
                                            {"WORLD_SIZE", "8"},
                                            {"LOCAL_RANK", "1"},
                                            {"LOCAL_WORLD_SIZE", "4"},
                                            {"MASTER_ADDR", "node7"},
                                            {"MASTER_PORT", "1234"},
                                            {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  EXPECT_EQ(environment.rank, 5);
  EXPECT_EQ(environment.world_size, 8);
  EXPECT_EQ(environment.local_rank, 1);
  EXPECT_EQ(environment.local_world_size, 4);
  EXPECT_EQ(environment.master_address, "node7");
  EXPECT_EQ(environment.master_port, 1234);
  EXPECT_TRUE(environment.store_is_outside);
}

TEST(RankEnvironment, OpenMpisVariablesAreRead) {
  const RankEnvironment environment = read({{"OMPI_COMM_WORLD_RANK", "3"},
                                            {"OMPI_COMM_WORLD_SIZE", "4"},
                                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(environment.rank, 3);
  EXPECT_EQ(environment.local_rank, 1);
  EXPECT_EQ(environment.source, "Open MPI");
}

TEST(RankEnvironment, AStepOfSlurmIsReadAndABatchScriptIsNot) {
  std::map<std::string, std::string> variables = {{"SLURM_PROCID", "0"},
                                                  {"SLURM_NTASKS", "4"},
                                                  {"SLURM_LOCALID", "0"},
                                                  {"SLURM_JOB_ID", "10017"}};
  EXPECT_EQ(read(variables).world_size, 1) << "the script itself runs once";
  variables["SLURM_STEP_ID"] = "0";
  variables["SLURM_STEP_NODELIST"] = "node[03-05]";
  EXPECT_EQ(read(variables).world_size, 4);
  EXPECT_EQ(read(variables).master_address, "node03");
  EXPECT_EQ(read(variables).master_port, read(variables).master_port);
}

TEST(RankEnvironment, TheFirstHostOfASlurmListIsFound) {
  EXPECT_EQ(first_slurm_host("node7"), "node7");
  EXPECT_EQ(first_slurm_host("a1,b2"), "a1");
  EXPECT_EQ(first_slurm_host("node[03-05,9],gpu1"), "node03");
  EXPECT_EQ(first_slurm_host("node[4,9]"), "node4");
  EXPECT_EQ(first_slurm_host("a,node[4,9]"), "a");
}

TEST(RankEnvironment, EverythingThatIsWrongIsSaidAtOnce) {
  try {
    read({{"WORLD_SIZE", "two"}, {"MASTER_PORT", "99999"}});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.problems().size(), 3u) << error.what();
    EXPECT_NE(std::string(error.what()).find("RANK"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("99999"), std::string::npos);
  }
}

TEST(RankEnvironment, ARankOutsideOfTheWorldIsRefused) {
  EXPECT_THROW(read({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), Error);
}

}  // namespace
}  // namespace espalier::launch

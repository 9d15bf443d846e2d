#include "espalier/parallel/device_mesh.h"

#include <gtest/gtest.h>

#include "espalier/base/error.h"

namespace espalier::parallel {
namespace {

MeshConfig sizes(std::optional<std::int64_t> dp, std::optional<std::int64_t> replicate,
                 std::int64_t tp = 1, std::int64_t cp = 1, std::int64_t pp = 1) {
  return {dp, replicate, tp, cp, pp};
}

std::size_t problems_of(const MeshConfig& config, int world) {
  try {
    const DeviceMesh mesh(config, world);
    return 0;
  } catch (const Error& error) {
    return error.problems().size();
  }
}

TEST(DeviceMesh, TheDataParallelSizeIsWhatIsLeft) {
  const DeviceMesh mesh(sizes({}, 2, 2, 1, 1), 16);
  EXPECT_EQ(mesh.size("dp"), 8);
  EXPECT_EQ(mesh.size("dp_replicate"), 2);
  EXPECT_EQ(mesh.size("dp_shard"), 4);
  EXPECT_EQ(mesh.size("tp"), 2);
  EXPECT_EQ(mesh.size("dp_shard_cp"), 4);
}

TEST(DeviceMesh, TensorParallelRanksAreNeighbours) {
  const DeviceMesh mesh(sizes({}, 2, 2), 8);
  EXPECT_EQ(mesh.peers(5, "tp"), (std::vector<int>{4, 5}));
  EXPECT_EQ(mesh.peers(5, "dp_shard"), (std::vector<int>{5, 7}));
  EXPECT_EQ(mesh.peers(5, "dp_replicate"), (std::vector<int>{1, 5}));
  EXPECT_EQ(mesh.peers(5, "dp"), (std::vector<int>{1, 3, 5, 7}));
  EXPECT_EQ(mesh.coordinate(5, "dp"), 2);
  EXPECT_EQ(mesh.coordinate(7, "dp_shard"), 1);
}

TEST(DeviceMesh, EveryRankIsInOneGroupOfEachAxis) {
  const DeviceMesh mesh(sizes({}, 2, 3, 2), 24);
  for (const char* axis :
       {"pp", "dp_replicate", "dp_shard", "cp", "tp", "dp", "dp_shard_cp", "dp_cp"}) {
    for (int rank = 0; rank < 24; ++rank) {
      const std::vector<int> peers = mesh.peers(rank, axis);
      EXPECT_EQ(static_cast<int>(peers.size()), mesh.size(axis)) << axis;
      EXPECT_EQ(peers[static_cast<std::size_t>(mesh.coordinate(rank, axis))], rank) << axis;
      for (const int peer : peers) EXPECT_EQ(mesh.peers(peer, axis), peers) << axis;
    }
  }
}

TEST(DeviceMesh, SizesFollowTheRulesOfTheReference) {
  EXPECT_EQ(problems_of(sizes(4, {}, 2), 8), 0u);
  EXPECT_EQ(problems_of(sizes({}, {}, 3), 8), 1u) << "3 does not divide 8";
  EXPECT_EQ(problems_of(sizes(3, {}, 2), 8), 1u) << "3 * 2 is not 8";
  EXPECT_EQ(problems_of(sizes({}, 3), 8), 1u) << "3 does not divide 8";
  EXPECT_EQ(problems_of(sizes({}, 8), 8), 1u) << "nothing is left to shard over";
  EXPECT_EQ(problems_of(sizes({}, 1), 8), 0u);
  EXPECT_EQ(problems_of(sizes({}, 4), 8), 0u);
}

TEST(DeviceMesh, AllThatDoesNotFitIsReportedAtOnce) {
  EXPECT_EQ(problems_of(sizes(5, 2, 3), 8), 3u);
}

TEST(DeviceMesh, AnUnknownAxisIsAnError) {
  EXPECT_THROW(DeviceMesh(sizes({}, {}), 4).size("ep"), Error);
}

}  // namespace
}  // namespace espalier::parallel

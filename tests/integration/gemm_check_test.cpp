// The self-test of matrix products before a run.
#include "engine/run/gemm_check.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(GemmCheck, FindsRightNumbersHere) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const GemmCheck check = check_gemm(dtype);
    EXPECT_TRUE(check.exact);
    EXPECT_GT(check.rate, 0);
    EXPECT_NE(check.text().find("GFLOP/s on"), std::string::npos) << check.text();
  }
}

TEST(GemmCheck, WarnsWithWhatItFoundAndExpected) {
  GemmCheck check{true, 100, 100};
  EXPECT_EQ(check.warning(), "");
  check.rate = 2;
  EXPECT_NE(check.warning().find("reach 2 GFLOP/s"), std::string::npos) << check.warning();
  EXPECT_NE(check.warning().find("where 100 are usual"), std::string::npos) << check.warning();
  check = {false, 100, 100};
  EXPECT_NE(check.warning().find("wrong numbers"), std::string::npos) << check.warning();
}

TEST(GemmCheck, NamesWhatMultiplies) {
  EXPECT_EQ(gemm_provider(at::kCPU, at::kFloat), "mkl");
  EXPECT_EQ(gemm_provider(at::kCPU, at::kBFloat16), "onednn");
  EXPECT_EQ(gemm_provider(at::Device(at::kCUDA, 0), at::kBFloat16), "cublas");
}

}  // namespace
}  // namespace espalier

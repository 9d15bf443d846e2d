#include <gtest/gtest.h>

#include <cstdlib>

// Not as properties of the tests: CMake takes lists of variables apart on their way to ctest.
int main(int argc, char** argv) {
  ::setenv("ESPALIER_FIXTURES", TEST_FIXTURES, 0);
  ::setenv("ESPALIER_BIN", TEST_PROGRAM, 0);
  ::setenv("ESPALIER_TEST_BUILD", TEST_BUILD, 0);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

#include "espalier/base/sha256.h"

#include <gtest/gtest.h>

#include "support/process.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

std::string digest(const std::string& text) { return sha256(std::as_bytes(std::span(text))); }

TEST(Sha256, HasTheDigestsOfTheStandard) {
  EXPECT_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, AgreesWithCoreutilsAtEveryLengthAroundABlock) {
  const testing::TemporaryFolder folder;
  for (const std::size_t length : {54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000}) {
    const std::string path = folder.write("data", std::string(length, 'x'));
    const std::string expected =
        testing::run_process({"/usr/bin/sha256sum", path}).out.substr(0, 64);
    EXPECT_EQ(sha256_of_file(path), expected) << length;
  }
}

}  // namespace
}  // namespace espalier

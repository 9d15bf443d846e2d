#include "plugin/version.h"

#include <gtest/gtest.h>

#include "espalier/base/error.h"

namespace espalier::plugin {
namespace {

TEST(Version, ComparesByNumber) {
  EXPECT_LT(parse_version("1.9.0"), parse_version("1.10.0"));
  EXPECT_EQ(parse_version("2"), parse_version("2.0.0"));
  for (const char* text : {"", "1.", "1.x", "-1.0", "1.2.3.4", "v1"})
    EXPECT_THROW(parse_version(text), Error) << text;
}

TEST(Requirement, HoldsAllBounds) {
  const Requirement requirement = parse_requirement("acme.losses >= 1.2, < 2");
  EXPECT_EQ(requirement.id, "acme.losses");
  EXPECT_TRUE(requirement.allows(parse_version("1.2.0")));
  EXPECT_TRUE(requirement.allows(parse_version("1.99.7")));
  EXPECT_FALSE(requirement.allows(parse_version("1.1.9")));
  EXPECT_FALSE(requirement.allows(parse_version("2.0.0")));
  EXPECT_TRUE(parse_requirement("acme.losses").allows(parse_version("0.0.1")));
  EXPECT_THROW(parse_requirement("acme.losses ~ 2"), Error);
  EXPECT_THROW(parse_requirement(">= 2"), Error);
}

}  // namespace
}  // namespace espalier::plugin

#include "text/stop_text.h"

#include <gtest/gtest.h>

namespace espalier::text {
namespace {

/// What is shown of `text` given in pieces of `size` bytes.
std::string shown(const std::string& text, const std::vector<std::string>& stops,
                  std::size_t size) {
  StopText stop(stops);
  std::string result;
  for (std::size_t i = 0; i < text.size(); i += size) {
    result += stop.push(text.substr(i, size));
    for (const std::string& one : stops) {
      if (!one.empty()) EXPECT_EQ(result.find(one), std::string::npos) << "a stop string was shown";
    }
  }
  return stop.stopped() ? result : result + stop.finish();
}

TEST(StopText, CutsAtTheFirstStopStringHoweverTheTextComes) {
  for (std::size_t size = 1; size < 12; ++size) {
    EXPECT_EQ(shown("one END two STOP", {"STOP", "END"}, size), "one ");
    EXPECT_EQ(shown("ababac rest", {"abac"}, size), "ab");
    EXPECT_EQ(shown("no stop EN", {"END"}, size), "no stop EN");
    EXPECT_EQ(shown("aaaa", {"aaab", ""}, size), "aaaa");
  }
}

TEST(StopText, HoldsBackWhatMayBecomeAStopString) {
  StopText stop({"END"});
  EXPECT_EQ(stop.push("xE"), "x");
  EXPECT_EQ(stop.push("N"), "");
  EXPECT_EQ(stop.push("x"), "ENx");
  EXPECT_FALSE(stop.stopped());
  EXPECT_EQ(stop.push("yEND of"), "y");
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");
}

}  // namespace
}  // namespace espalier::text

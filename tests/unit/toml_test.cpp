#include "config/toml.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "config/overrides.h"
#include "config/substitution.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier::config {
namespace {

std::string position_of(const Value& tree, const std::string& path) {
  return tree.find_path(path)->position().to_string();
}

TEST(Toml, KeepsOrderAndThePlaceOfEachKey) {
  const Value tree = parse_toml(
      "zeta = 1\nalpha = 2\n\n[table]\n  \"kéy\" = [10,\n 20]\nsub.deep = {x = 1}\n", "r.toml");
  EXPECT_EQ(dump_json(tree),
            R"({"zeta": 1, "alpha": 2, "table": {"kéy": [10, 20], "sub": {"deep": {"x": 1}}}})");
  EXPECT_EQ(position_of(tree, "alpha"), "r.toml:2:1");
  EXPECT_EQ(position_of(tree, "table"), "r.toml:4:2");
  EXPECT_EQ(position_of(tree, "table.kéy"), "r.toml:5:3");
  EXPECT_EQ(tree.find_path("table.kéy")->as_array()[1].position().to_string(), "r.toml:6:2");
  EXPECT_EQ(position_of(tree, "table.sub.deep"), "r.toml:7:5");
  EXPECT_EQ(position_of(tree, "table.sub.deep.x"), "r.toml:7:13");
}

TEST(Toml, NamesThePlaceOfASyntaxError) {
  try {
    parse_toml("a = 1\nb = = 2\n", "r.toml");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problems()[0].where, "r.toml:2:5");
  }
  EXPECT_THROW(parse_toml("a = 1\na = 2\n", "r.toml"), Error);
  EXPECT_THROW(parse_toml("a = \"\xff\"\n", "r.toml"), Error);
}

TEST(Toml, WritesWhatItReadsBackToTheSameTree) {
  const char* text = R"(name = "a \"quoted\" \\ text\twith\n${lines}"
numbers = [1, -2.5, 1e-8, inf, -inf, 3.0]
flag = true
empty = []
[section]
"odd key" = 1
"" = 2
[section.nested]
list = [{a = 1, b = [true]}, {}]
[empty_table]
)";
  const Value tree = parse_toml(text, "r");
  Value again = parse_toml(dump_toml(tree), "r");
  ProblemList problems;
  substitute_environment(again, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(again, tree) << dump_toml(tree);
}

TEST(Substitution, FillsInVariablesAndDefaults) {
  ::setenv("ESPALIER_TEST_TEXT", "some text", 1);
  ::setenv("ESPALIER_TEST_NUMBER", "2e-4", 1);
  ::unsetenv("ESPALIER_TEST_NONE");
  Value tree = parse_toml(R"(
a = "${ESPALIER_TEST_TEXT}"
b = "${ESPALIER_TEST_NUMBER}"
c = "x/${ESPALIER_TEST_NUMBER}/y"
d = ["${ESPALIER_TEST_NONE:7}", "${ESPALIER_TEST_NONE:true}", "${ESPALIER_TEST_NONE:}"]
e = "$${ESPALIER_TEST_TEXT} costs $5"
)",
                          "r");
  ProblemList problems;
  substitute_environment(tree, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(
      dump_json(tree),
      R"({"a": "some text", "b": 2e-04, "c": "x/2e-4/y", "d": [7, true, ""], "e": "${ESPALIER_TEST_TEXT} costs $5"})");
}

TEST(Substitution, NamesThePlaceOfAnUnsetVariable) {
  ::unsetenv("ESPALIER_TEST_NONE");
  Value tree =
      parse_toml("[a]\nb = \"${ESPALIER_TEST_NONE}\"\nc = \"${unclosed\"\nd = \"${}\"\n", "r");
  ProblemList problems;
  substitute_environment(tree, problems);
  ASSERT_EQ(problems.problems().size(), 3U);
  EXPECT_EQ(problems.problems()[0].where, "r:2:1");
  EXPECT_EQ(problems.problems()[1].where, "r:3:1");
  EXPECT_EQ(problems.problems()[2].where, "r:4:1");
}

TEST(Overrides, ReadValuesAsTomlOrElseAsText) {
  Value tree = parse_toml("[a]\nx = 1\n", "r");
  ProblemList problems;
  apply_overrides(tree,
                  {"--a.x=2e-4", "--a.path=/data/x y.jsonl", "--b.c.d=[1, 2]", "--a.t={k = true}",
                   "--seed=7", "--a.injected=1\nz = 2", "--a.\"p.q\"=0", "--a.eq=k=v"},
                  problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(
      dump_json(tree),
      R"({"a": {"x": 2e-04, "path": "/data/x y.jsonl", "t": {"k": true}, "injected": "1\nz = 2", "p.q": 0, "eq": "k=v"}, "b": {"c": {"d": [1, 2]}}, "seed": 7})");
  EXPECT_EQ(position_of(tree, "a.x"), "--a.x");
}

TEST(Overrides, RefuseToLeadThroughAValue) {
  Value tree = parse_toml("[a]\nx = 1\n", "r");
  ProblemList problems;
  apply_overrides(tree, {"--a.x.y=2", "--a..b=1", "--=1"}, problems);
  EXPECT_EQ(problems.problems().size(), 3U);
}

}  // namespace
}  // namespace espalier::config

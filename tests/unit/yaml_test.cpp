#include <gtest/gtest.h>

#include <cstdlib>

#include "config/reference_recipe.h"
#include "config/yaml_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier::config {
namespace {

std::string json_of(const std::string& yaml) { return dump_json(parse_yaml(yaml, "r.yaml")); }

std::string problem_of(const std::string& yaml) {
  try {
    parse_yaml(yaml, "r.yaml");
  } catch (const Error& error) {
    return error.what();
  }
  return "no problem";
}

TEST(Yaml, PlainScalarsHaveTheTypesOfVersion11) {
  EXPECT_EQ(json_of("[1, -2, 0x10, 1_000, 1.5, .5, 1e3, 1.0e-5, 2.]"),
            "[1, -2, 16, 1000, 1.5, 0.5, 1000.0, 1e-05, 2.0]");
  EXPECT_EQ(json_of("[yes, No, on, off, true, ~, null]"),
            "[true, false, true, false, true, null, null]");
  EXPECT_EQ(json_of("[007, none, 1e, a.b, '1', \"yes\", !!str 5]"),
            R"(["007", "none", "1e", "a.b", "1", "yes", "5"])");
  EXPECT_EQ(json_of("{a: , b: []}"), R"({"a": null, "b": []})");
  EXPECT_EQ(json_of(""), "{}");
}

TEST(Yaml, TextsOfPythonAreRead) {
  const auto literal = [](const std::string& text) { return dump_json(python_literal(text)); };
  EXPECT_EQ(literal("None"), "null");
  EXPECT_EQ(literal("1e-5"), "1e-05");
  EXPECT_EQ(literal("(0.9, 0.95)"), "[0.9, 0.95]");
  EXPECT_EQ(literal("['a', b, True]"), R"(["a", "b", true])");
  EXPECT_EQ(literal("[[1]]"), R"("[[1]]")");
  EXPECT_EQ(literal("TRUE"), R"("TRUE")");
}

TEST(Yaml, ValuesKnowWhereTheirKeysStand) {
  const Value tree = parse_yaml("a: 1\nb:\n  c: [1,\n    2]\n", "r.yaml");
  EXPECT_EQ(tree.find("a")->position().to_string(), "r.yaml:1:1");
  EXPECT_EQ(tree.find_path("b.c")->position().to_string(), "r.yaml:3:3");
  EXPECT_EQ(tree.find_path("b.c")->as_array()[1].position().to_string(), "r.yaml:4:5");
}

TEST(Yaml, AnchorsAndMergeKeysAreResolved) {
  EXPECT_EQ(
      json_of("base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nlist: {<<: [*b, {z: 4}]}"),
      R"({"base": {"x": 1, "y": 2}, "other": {"y": 3, "x": 1}, "list": {"x": 1, "y": 2, "z": 4}})");
}

/// yaml-cpp reads these without end; found by yaml_fuzz.
TEST(Yaml, TextsThatBeginLikeNothingAreErrors) {
  for (const char* text : {",", ", a", "]", "}", "a: 1\n---\n, b", "[a], b"})
    EXPECT_NE(problem_of(text).find("r.yaml"), std::string::npos) << text;
  EXPECT_NE(problem_of(", a: 1").find("r.yaml:1:1"), std::string::npos);
}

/// Few nodes, much text.
TEST(Yaml, AliasesMayNotMultiplyText) {
  std::string bomb = "a0: &a0 \"" + std::string(300, 'x') + "\"\n";
  for (int i = 1; i < 4; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 50; ++j) bomb += (j == 0 ? "*a" : ", *a") + std::to_string(i - 1) + " ";
    bomb += "]\n";
  }
  EXPECT_NE(problem_of(bomb).find("too large with its aliases written out"), std::string::npos);
}

TEST(Yaml, MistakesAreErrorsWithTheirPlace) {
  EXPECT_NE(problem_of("a: [1\nb: 2").find("not valid YAML"), std::string::npos);
  EXPECT_NE(problem_of("a: 1\na: 2").find("stands twice"), std::string::npos);
  EXPECT_NE(problem_of("a: 1\na: 2").find("r.yaml:2:1"), std::string::npos);
  EXPECT_NE(problem_of("a: !!python/object:os.system x").find("is not plain data"),
            std::string::npos);
  EXPECT_NE(problem_of("a: 1\n---\nb: 2").find("several documents"), std::string::npos);
  EXPECT_NE(problem_of("[a]: 1").find("a key is not text"), std::string::npos);
  std::string bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1) + " ";
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) bomb += (j == 0 ? "" : ", ") + before;
    bomb += "]\n";
  }
  EXPECT_NE(problem_of(bomb).find("too large"), std::string::npos);
}

TEST(Yaml, TheEnvironmentFillsInAsInAutomodel) {
  ::setenv("ESPALIER_YAML_A", "5", 1);
  ::setenv("ESPALIER_YAML_B", "x", 1);
  ::unsetenv("ESPALIER_YAML_C");
  Value tree = parse_yaml(
      "[\"${ESPALIER_YAML_A}\", $ESPALIER_YAML_B/y, \"${oc.env:ESPALIER_YAML_B}\","
      " \"${ESPALIER_YAML_C,7}\", \"${oc.env:ESPALIER_YAML_C,a b}\", \"none\"]",
      "r.yaml");
  ProblemList problems;
  substitute_reference_environment(tree, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(dump_json(tree), R"([5, "x/y", "x", 7, "a b", null])");
  tree = parse_yaml("a: ${ESPALIER_YAML_C}", "r.yaml");
  substitute_reference_environment(tree, problems);
  ASSERT_EQ(problems.problems().size(), 1U);
  EXPECT_EQ(problems.problems()[0].where, "r.yaml:1:1");
}

}  // namespace
}  // namespace espalier::config

#include "espalier/base/json.h"

#include <gtest/gtest.h>

#include "espalier/base/error.h"

namespace espalier {
namespace {

std::string problem_of(std::string_view text) {
  try {
    parse_json(text, {.file = "x.json"});
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, ReadsWhatItWrites) {
  const char* text = R"({"a": [1, -2.5, true, null], "b": {"c": "é\n"}, "d": []})";
  const Value value = parse_json(text);
  EXPECT_EQ(value.find_path("b.c")->as_string(), "é\n");
  EXPECT_EQ(dump_json(value), text);
  EXPECT_EQ(parse_json(dump_json(value, 2)), value);
}

TEST(Json, KeepsIntegersAndDoublesApart) {
  EXPECT_EQ(dump_json(parse_json("[1, 1.0, 1e300, 9223372036854775807, 18446744073709551615]")),
            "[1, 1.0, 1e+300, 9223372036854775807, 18446744073709551616.0]");
}

TEST(Json, NamesLineAndColumnOfAMistake) {
  EXPECT_NE(problem_of("{\n  \"a\": 1,\n  oops\n}").find("x.json:3:3"), std::string::npos)
      << problem_of("{\n  \"a\": 1,\n  oops\n}");
}

TEST(Json, RefusesRepeatedKeysAndDeepNesting) {
  EXPECT_NE(problem_of(R"({"a": 1, "a": 2})").find("\"a\" appears twice"), std::string::npos);
  EXPECT_EQ(parse_json(R"({"a": 1, "a": 2})", {.allow_duplicate_keys = true}).find("a")->as_int(),
            2);
  EXPECT_NE(problem_of(std::string(100000, '[')).find("nested deeper"), std::string::npos);
}

}  // namespace
}  // namespace espalier

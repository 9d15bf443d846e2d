#include "espalier/base/schema.h"

#include <gtest/gtest.h>

#include "espalier/base/config_schema.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

struct ScheduleConfig {
  std::string type_name = "linear";
  std::int64_t warmup_steps = 0;

  static ConfigSchema<ScheduleConfig> schema() {
    return ConfigSchema<ScheduleConfig>()
        .field("name", &ScheduleConfig::type_name, "shape of the decay")
        .one_of({"linear", "cosine"})
        .field("warmup_steps", &ScheduleConfig::warmup_steps, "steps of warm-up")
        .at_least(0);
  }
};

struct OptimizerConfig {
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.999};
  std::optional<double> clip;
  std::string path;
  ScheduleConfig schedule;
  std::map<std::string, double> multipliers;

  static ConfigSchema<OptimizerConfig> schema() {
    return ConfigSchema<OptimizerConfig>()
        .field("lr", &OptimizerConfig::lr, "learning rate")
        .more_than(0)
        .field("betas", &OptimizerConfig::betas, "moment decay rates")
        .length(2)
        .field("clip", &OptimizerConfig::clip, "largest norm")
        .field("path", &OptimizerConfig::path, "where the state is")
        .required()
        .field("schedule", &OptimizerConfig::schedule, "learning rate schedule")
        .field("multipliers", &OptimizerConfig::multipliers, "factor for each pattern");
  }
};

std::string problems_of(const char* json) {
  ProblemList problems;
  check_config(OptimizerConfig::schema().spec(), parse_json(json, {.file = "r"}), "optimizer",
               problems, {"type"});
  std::string text;
  for (const Problem& problem : problems.problems()) text += problem.to_string() + "\n";
  return text;
}

TEST(Schema, ReadsAConfigWithDefaults) {
  const OptimizerConfig config = OptimizerConfig::schema().parse(parse_json(
      R"({"type": "x", "path": "p", "lr": 1, "schedule": {"name": "cosine"}, "multipliers": {"*.bias": 2.0}})"));
  EXPECT_EQ(config.lr, 1.0);
  EXPECT_EQ(config.betas, (std::vector<double>{0.9, 0.999}));
  EXPECT_FALSE(config.clip.has_value());
  EXPECT_EQ(config.schedule.type_name, "cosine");
  EXPECT_EQ(config.multipliers.at("*.bias"), 2.0);
}

TEST(Schema, ReportsAllProblemsAtOnceWithSuggestions) {
  const std::string text = problems_of(
      R"({"lrr": 1, "lr": 0, "betas": [0.9], "schedule": {"name": "cosin"}, "clip": "1"})");
  EXPECT_NE(text.find("unknown key 'optimizer.lrr'"), std::string::npos) << text;
  EXPECT_NE(text.find("did you mean 'lr'?"), std::string::npos) << text;
  EXPECT_NE(text.find("'optimizer.lr' is out of range"), std::string::npos) << text;
  EXPECT_NE(text.find("a list of 2 items"), std::string::npos) << text;
  EXPECT_NE(text.find("did you mean 'cosine'?"), std::string::npos) << text;
  EXPECT_NE(text.find("'optimizer.clip' has the wrong type"), std::string::npos) << text;
  EXPECT_NE(text.find("'optimizer.path' is missing"), std::string::npos) << text;
}

struct FilesConfig {
  std::vector<std::string> path;

  static ConfigSchema<FilesConfig> schema() {
    return ConfigSchema<FilesConfig>()
        .field("path", &FilesConfig::path, "files")
        .or_single()
        .required();
  }
};

TEST(Schema, TakesOneItemForAListWhereTheFieldSaysSo) {
  const auto parse = [](const char* json) {
    return FilesConfig::schema().parse(parse_json(json)).path;
  };
  EXPECT_EQ(parse(R"({"path": "a"})"), std::vector<std::string>{"a"});
  EXPECT_EQ(parse(R"({"path": ["a", "b"]})"), (std::vector<std::string>{"a", "b"}));
  try {
    parse(R"({"path": 3})");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problems().front().expected, "a string or a list, each a string");
  }
  const Value spec = schema_to_value(FilesConfig::schema().spec());
  EXPECT_EQ(schema_to_value(schema_from_value(spec)), spec);
  EXPECT_TRUE(schema_from_value(spec).fields.front().single);
}

TEST(Schema, SurvivesTheTripThroughAManifest) {
  const Value stored = schema_to_value(OptimizerConfig::schema().spec());
  EXPECT_EQ(schema_to_value(schema_from_value(parse_json(dump_json(stored)))), stored);
  EXPECT_THROW(schema_from_value(parse_json(R"([{"name": "x", "type": "colour"}])")), Error);
}

TEST(Schema, FillsDefaultsInSchemaOrder) {
  const Value filled =
      with_defaults(OptimizerConfig::schema().spec(), parse_json(R"({"path": "p", "lr": 2})"));
  EXPECT_EQ(
      dump_json(filled),
      R"({"lr": 2, "betas": [0.9, 0.999], "path": "p", "schedule": {"name": "linear", "warmup_steps": 0}, "multipliers": {}})");
}

}  // namespace
}  // namespace espalier

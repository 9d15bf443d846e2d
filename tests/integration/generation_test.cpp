// Text that models write: searches held against transformers, draws against exact probabilities.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "engine/generate/generator.h"
#include "engine/run/component_library.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "fixture_path.h"
#include "support/process.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::run_espalier;

std::vector<std::int64_t> ids_of(const Value& list) {
  std::vector<std::int64_t> ids;
  for (const Value& id : list.as_array()) ids.push_back(id.as_int());
  return ids;
}

/// Options by the names of transformers' GenerationConfig.
GenerateOptions options_of(const Value& table) {
  GenerateOptions options;
  SamplingOptions& sampling = options.sampling;
  const std::map<std::string, std::int64_t*> whole = {
      {"num_beams", &options.num_beams},
      {"num_return_sequences", &options.num_answers},
      {"max_new_tokens", &options.max_new_tokens},
      {"min_new_tokens", &sampling.min_new_tokens},
      {"no_repeat_ngram_size", &sampling.no_repeat_ngram_size},
      {"top_k", &sampling.top_k}};
  const std::map<std::string, double*> real = {{"length_penalty", &options.length_penalty},
                                               {"repetition_penalty", &sampling.repetition_penalty},
                                               {"temperature", &sampling.temperature},
                                               {"top_h", &sampling.top_h},
                                               {"top_p", &sampling.top_p},
                                               {"min_p", &sampling.min_p},
                                               {"typical_p", &sampling.typical_p},
                                               {"epsilon_cutoff", &sampling.epsilon_cutoff},
                                               {"eta_cutoff", &sampling.eta_cutoff}};
  for (const auto& [key, value] : table.as_table()) {
    if (key == "early_stopping")
      options.early_stopping = value.is_bool() ? EarlyStopping::kYes : EarlyStopping::kNever;
    else if (whole.contains(key))
      *whole.at(key) = value.as_int();
    else
      *real.at(key) = value.as_float();
  }
  return options;
}

class Generation : public ::testing::Test {
 protected:
  LoadedModel load(const std::string& name) {
    ModelLoadOptions options;
    options.dtype = "float32";
    options.compute_dtype = "float32";
    return library_.from_pretrained(fixture_path("models/" + name), options);
  }
  ComponentLibrary library_;
};

TEST_F(Generation, BeamSearchFindsTheReferenceBeams) {
  const Value document = read_json_file(fixture_path("models/llama/generate.json"));
  const LoadedModel loaded = load("llama");
  TextRunner runner(*loaded.model);
  GenerateOptions options;
  options.max_new_tokens = document.find("max_new_tokens")->as_int();
  options.num_beams = document.find("num_beams")->as_int();
  const auto answers = generate_answers(runner, {ids_of(*document.find("prompt"))}, options);
  EXPECT_EQ(answers.front().ids, ids_of(*document.find("beam_search")));
}

TEST_F(Generation, SearchesFindWhatTransformersFinds) {
  std::map<std::string, LoadedModel> models;
  int beams = 0;
  const Value cases = read_json_file(fixture_path("generation/searches.json"));
  for (const Value& one : cases.as_array()) {
    SCOPED_TRACE(dump_json(one));
    const std::string name = one.find("model")->as_string();
    if (!models.contains(name)) models.emplace(name, load(name));
    GenerateOptions options = options_of(*one.find("options"));
    for (const std::int64_t id : ids_of(*one.find("stop_ids"))) options.stop_ids.insert(id);
    TextRunner runner(*models.at(name).model);
    const auto answers = generate_answers(runner, {ids_of(*one.find("prompt"))}, options);
    const Array& expected = one.find("answers")->as_array();
    ASSERT_EQ(answers.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(answers[i].ids, ids_of(expected[i])) << "answer " << i;
      if (const Value* scores = one.find("scores")) {
        EXPECT_NEAR(answers[i].score, scores->as_array()[i].as_float(), 1e-4);
      }
    }
    beams += options.num_beams > 1 ? 1 : 0;
  }
  EXPECT_GE(beams, 15);
}

TEST_F(Generation, PromptsSideBySideAreAnsweredAsAlone) {
  for (const char* name : {"llama", "llama_dynamic"}) {  // with and without a cache
    const LoadedModel loaded = load(name);
    TextRunner runner(*loaded.model);
    const std::vector<std::vector<std::int64_t>> prompts = {{5, 9, 17}, {3}, {44, 2, 8, 8, 30}};
    GenerateOptions options;
    options.max_new_tokens = 10;
    options.num_answers = 3;
    options.sampling.sample = true;
    options.sampling.seed = 11;
    options.log_probabilities = true;
    const auto together = generate_answers(runner, prompts, options);
    ASSERT_EQ(together.size(), 9U);
    EXPECT_NE(together[0].ids, together[1].ids);
    // Answers end at different times, and those that go on are not disturbed.
    options.stop_ids = {together[1].ids[3], together[6].ids[5]};
    const auto stopped = generate_answers(runner, prompts, options);
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      options.first_prompt = p;
      const auto alone = generate_answers(runner, {prompts[p]}, options);
      for (std::size_t n = 0; n < 3; ++n) {
        EXPECT_EQ(alone[n].ids, stopped[p * 3 + n].ids);
        for (std::size_t i = 0; i < alone[n].ids.size(); ++i) {
          EXPECT_EQ(alone[n].ids[i], together[p * 3 + n].ids[i]);
          EXPECT_NEAR(alone[n].log_probabilities[i], together[p * 3 + n].log_probabilities[i],
                      1e-4);
        }
      }
    }
    options.first_prompt = 0;
  }
}

TEST_F(Generation, ATextThatGoesOnIsReadFromWhereItEnded) {
  const LoadedModel loaded = load("llama");
  TextRunner fresh(*loaded.model);
  TextRunner going_on(*loaded.model);
  going_on.start({{5, 9, 17}});
  going_on.append({21});
  const at::Tensor expected = fresh.start({{5, 9, 17, 21, 4, 6}});
  const at::Tensor found = going_on.start({{5, 9, 17, 21, 4, 6}});
  EXPECT_LE((expected - found).abs().max().item<double>(), 1e-5);
  EXPECT_LE((fresh.start({{7, 7}}) - going_on.start({{7, 7}})).abs().max().item<double>(), 1e-5);
}

// --- samplers ---

/// Upper 1e-6 quantile of chi-square (Wilson and Hilferty 1931).
double chi_square_limit(int freedom) {
  const double k = freedom;
  return k * std::pow(1.0 - 2.0 / (9.0 * k) + 4.7534 * std::sqrt(2.0 / (9.0 * k)), 3.0);
}

TEST(Samplers, HaveTheProbabilitiesOfTransformersAndDrawWithThem) {
  const Value document = read_json_file(fixture_path("generation/samplers.json"));
  std::vector<double> values;
  for (const Value& value : document.find("logits")->as_array()) values.push_back(value.as_float());
  const at::Tensor logits = at::tensor(values, at::kDouble);
  const std::vector<std::int64_t> history = ids_of(*document.find("history"));
  std::set<std::int64_t> stop_ids;
  for (const std::int64_t id : ids_of(*document.find("stop_ids"))) stop_ids.insert(id);
  const TextSoFar text{history, document.find("prompt_length")->as_int(), stop_ids};
  constexpr int kDraws = 20000;
  for (const Value& one : document.find("cases")->as_array()) {
    SCOPED_TRACE(dump_json(*one.find("options")));
    SamplingOptions options = options_of(*one.find("options")).sampling;
    options.sample = true;
    options.seed = 7;
    Sampler sampler(options, 0);
    const at::Tensor found = sampler.probabilities(logits, text);
    std::vector<double> expected;
    for (const Value& value : one.find("probabilities")->as_array())
      expected.push_back(value.as_float());
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(found[static_cast<std::int64_t>(i)].item<double>(), expected[i], 1e-9);

    std::vector<int> counts(expected.size(), 0);
    for (int draw = 0; draw < kDraws; ++draw)
      ++counts[static_cast<std::size_t>(sampler.pick(logits, text))];
    // Tokens that are expected less than five times share a cell.
    double chi_square = 0;
    double rare_expected = 0;
    int rare = 0;
    int cells = 0;
    const auto add = [&](int count, double expected_count) {
      chi_square += (count - expected_count) * (count - expected_count) / expected_count;
      ++cells;
    };
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] == 0) {
        EXPECT_EQ(counts[i], 0) << "token " << i << " can't be drawn";
      } else if (expected[i] * kDraws < 5) {
        rare += counts[i];
        rare_expected += expected[i] * kDraws;
      } else {
        add(counts[i], expected[i] * kDraws);
      }
    }
    if (rare_expected > 0) add(rare, rare_expected);
    if (cells > 1) {
      EXPECT_LT(chi_square, chi_square_limit(cells - 1));
    }
  }
}

TEST(Samplers, RefuseValuesOutOfRange) {
  const auto refused = [](auto set) {
    SamplingOptions options;
    set(options);
    EXPECT_THROW(options.check(), Error);
  };
  refused([](SamplingOptions& options) { options.temperature = 0; });
  refused([](SamplingOptions& options) { options.top_p = 1.5; });
  refused([](SamplingOptions& options) { options.typical_p = 0; });
  refused([](SamplingOptions& options) { options.eta_cutoff = 1; });
  refused([](SamplingOptions& options) { options.no_repeat_ngram_size = -1; });
}

// --- the command ---

TEST(GenerateCommand, AnswersALinesFileWithIdsAndLogProbabilities) {
  const testing::TemporaryFolder folder;
  folder.write("prompts.jsonl",
               "{\"prompt_ids\": [5, 9], \"name\": \"a\"}\n\n{\"prompt_ids\": [7]}\n");
  const auto run = [&](const std::string& batch) {
    const auto result =
        run_espalier({"generate", "--model", fixture_path("models/llama"), "--prompts",
                      folder.file("prompts.jsonl"), "--output", folder.file("answers.jsonl"),
                      "--batch-size", batch, "--max-new-tokens", "5", "--ignore-eos",
                      "--temperature", "0.9", "--num-answers", "2", "--log-probs"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return read_file(folder.file("answers.jsonl"));
  };
  const std::string answers = run("8");
  const Value first = parse_json(answers.substr(0, answers.find('\n')));
  EXPECT_EQ(first.find("name")->as_string(), "a");
  const Array& list = first.find("answers")->as_array();
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].find("ids")->as_array().size(), 5U);
  EXPECT_EQ(list[0].find("log_probabilities")->as_array().size(), 5U);
  EXPECT_LT(list[0].find("log_probabilities")->as_array()[0].as_float(), 0.0);
  const auto ids = [](const std::string& lines) {
    std::vector<std::int64_t> all;
    std::istringstream stream(lines);
    for (std::string line; std::getline(stream, line);) {
      const Value parsed = parse_json(line);
      for (const Value& answer : parsed.find("answers")->as_array()) {
        for (const std::int64_t id : ids_of(*answer.find("ids"))) all.push_back(id);
      }
    }
    return all;
  };
  EXPECT_EQ(ids(answers), ids(run("1"))) << "what is drawn does not depend on the batch";
}

TEST(GenerateCommand, RefusesCombinationsThatMeanNothing) {
  const std::string model = fixture_path("models/llama");
  const std::vector<std::vector<std::string>> wrong = {
      {"--num-answers", "2"}, {"--num-beams", "2", "--num-answers", "3"},
      {"--num-beams", "0"},   {"--early-stopping", "maybe"},
      {"--log-probs"},        {"--output", "x"},
      {"--stop", "x"}};  // the model has no tokenizer
  for (const auto& words : wrong) {
    std::vector<std::string> all = {"generate", "--model", model, "--prompt-ids", "5"};
    all.insert(all.end(), words.begin(), words.end());
    EXPECT_EQ(run_espalier(all).exit_code, 2) << words[0];
  }
}

}  // namespace
}  // namespace espalier

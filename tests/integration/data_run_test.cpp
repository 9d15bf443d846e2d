// Training over several datasets by the program, and the command that looks at data.
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "fixture_path.h"
#include "support/process.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

using testing::run_espalier;

class DataRun : public ::testing::Test {
 protected:
  std::string recipe(const std::string& name, const std::string& dataset) const {
    return folder_.write(name + ".toml",
                         "output_dir = \"" + folder_.file(name) + "\"\n" + "[model]\npath = \"" +
                             testing::fixture_path("models/llama") + "\"\n" + dataset + R"(
[packed_sequence]
packed_sequence_size = 48
packing_strategy = "best_fit"
window = 20
[step_scheduler]
global_batch_size = 3
local_batch_size = 3
val_every_steps = 2
ckpt_every_steps = 2
[optimizer]
type = "sgd"
lr = 0.1
[lr_scheduler]
type = "constant"
)");
  }
  std::vector<Value> lines(const std::string& path) const {
    std::vector<Value> values;
    std::istringstream text(read_file(folder_.file(path)));
    for (std::string line; std::getline(text, line);) values.push_back(parse_json(line));
    return values;
  }
  std::vector<double> losses(const std::string& run) const {
    std::vector<double> result;
    for (const Value& line : lines(run + "/training.jsonl"))
      result.push_back(line.find("loss")->as_float());
    return result;
  }

  testing::TemporaryFolder folder_;
};

const char* const kMixture = R"(
[dataset]
type = "mixture"
weights = [2, 1]
datasets = [{type = "mock", vocab_size = 64, seq_length = 30, min_length = 3, num_samples = 40},
            {type = "mock", vocab_size = 64, seq_length = 10, num_samples = 40, seed = 1}]
[validation_dataset]
type = "mock"
vocab_size = 64
seq_length = 12
num_samples = 5
[validation_dataset_short]
type = "mock"
vocab_size = 64
seq_length = 4
num_samples = 7
)";

TEST_F(DataRun, AMixtureInBestFitRowsGoesOnAfterAStopAsIfThereWasNone) {
  const auto whole =
      run_espalier({"train", recipe("whole", kMixture), "--step_scheduler.max_steps=9"});
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::string stopped = recipe("stopped", kMixture);
  for (const char* steps : {"4", "9"}) {  // 4 steps end inside a window
    const auto part =
        run_espalier({"train", stopped, std::string("--step_scheduler.max_steps=") + steps});
    ASSERT_EQ(part.exit_code, 0) << part.err;
  }
  EXPECT_EQ(losses("whole"), losses("stopped"));
  EXPECT_EQ(losses("whole").size(), 9U);
}

TEST_F(DataRun, EveryValidationSetIsReportedByItself) {
  const auto result =
      run_espalier({"train", recipe("run", kMixture), "--step_scheduler.max_steps=2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE((result.out + result.err).find("validation short after step 2"), std::string::npos)
      << result.out << result.err;
  EXPECT_EQ(lines("run/validation.jsonl").back().find("num_tokens")->as_int(), 60);
  EXPECT_EQ(lines("run/validation_short.jsonl").back().find("num_tokens")->as_int(), 28);
}

TEST_F(DataRun, AStreamNeedsAMaximumOfSteps) {
  const std::string data = folder_.write("a.jsonl", "{\"q\": \"a\", \"a\": \"b\"}\n");
  std::filesystem::create_directories(folder_.file("model"));
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy(testing::fixture_path(std::string("models/llama/") + name),
                          folder_.file(std::string("model/") + name));
  std::filesystem::copy(testing::fixture_path("tokenizers/smollm/tokenizer.json"),
                        folder_.file("model/tokenizer.json"));
  const auto result = run_espalier(
      {"train",
       recipe("run", "[dataset]\ntype = \"column_mapped\"\nstreaming = true\npath = \"" + data +
                         "\"\ncolumn_mapping = {question = \"q\", answer = \"a\"}\n"),
       "--model.path=" + folder_.file("model")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("the data is a stream, which has no end"), std::string::npos)
      << result.err;
}

TEST_F(DataRun, InspectShowsRowsNumbersAndAPage) {
  const std::string page = folder_.file("page.html");
  const auto result =
      run_espalier({"data", "inspect", recipe("run", kMixture), "--json", "--html", page});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Value report = parse_json(result.out);
  EXPECT_EQ(report.find("packing")->as_string(), "best_fit");
  EXPECT_GT(report.find("packed_efficiency")->as_float(), 0.9);
  EXPECT_EQ(report.find("shown")->as_array().size(), 2U);
  EXPECT_NE(read_file(page).find("</html>"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_.file("run")));
  const auto text = run_espalier(
      {"data", "inspect", recipe("run", kMixture), "--section", "validation_dataset_short"});
  EXPECT_NE(text.out.find("samples      7, 7 looked at"), std::string::npos) << text.out;
  EXPECT_EQ(text.out.find('\033'), std::string::npos);
  EXPECT_EQ(run_espalier({"data", "inspect", recipe("run", kMixture), "--section", "validation_x"})
                .exit_code,
            2);
  EXPECT_EQ(run_espalier({"data", "show"}).exit_code, 2);
}

}  // namespace
}  // namespace espalier

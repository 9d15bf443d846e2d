// From records to batches: streams, mixtures, packing, token caches, and going on after a stop.
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <numeric>
#include <set>

#include "engine/data/data_report.h"
#include "engine/data/loader.h"
#include "engine/data/packing.h"
#include "engine/data/token_cache.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/batch.h"
#include "support/compressed.h"
#include "support/datasets.h"

namespace espalier {
namespace {

using testing::open_dataset;
using testing::table_of;
using testing::text_context;

using Ids = std::vector<std::int64_t>;

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// Records {"q": "N", "a": "N"} for column_mapped; sample N is told by its text.
class Numbered : public ::testing::Test {
 protected:
  static std::string lines(int from, int to) {
    std::string text;
    for (int i = from; i < to; ++i)
      text += "{\"q\": \"n\", \"a\": \"" + std::to_string(i) + "\"}\n";
    return text;
  }
  Table config(const std::string& path) const {
    return table_of({{"path", path},
                     {"tokenization", "separate"},
                     {"column_mapping", table_of({{"question", "q"}, {"answer", "a"}})}});
  }
  std::int64_t number_of(const Sample& sample) const {
    std::vector<std::int32_t> ids;
    for (const std::int64_t label : sample.labels) {
      if (label != kIgnoredLabel && label != context_.tokenizer->eos_id())
        ids.push_back(static_cast<std::int32_t>(label));
    }
    return std::stoll(context_.tokenizer->decode(ids, true));
  }
  Ids all_of(const Dataset& dataset, std::int64_t count = -1) const {
    Ids result;
    for (std::int64_t i = 0; i < (count < 0 ? dataset.size() : count); ++i)
      result.push_back(number_of(dataset.get(i)));
    return result;
  }

  testing::TemporaryFolder folder_;
  DatasetContext context_ = text_context("qwen2");
};

TEST_F(Numbered, SplitShuffleAndLimitChooseRecordsInThatOrder) {
  Table table = config(folder_.write("a.jsonl", lines(0, 20)));
  table.set("split", "train[10%:50%]");
  EXPECT_EQ(all_of(*open_dataset("column_mapped", table, context_)), (Ids{2, 3, 4, 5, 6, 7, 8, 9}));
  table.set("limit_dataset_samples", 3);
  EXPECT_EQ(all_of(*open_dataset("column_mapped", table, context_)), (Ids{2, 3, 4}));
  table.set("shuffle_seed", 1);
  const Ids shuffled = all_of(*open_dataset("column_mapped", table, context_));
  EXPECT_EQ(shuffled, all_of(*open_dataset("column_mapped", table, context_)));
  EXPECT_NE(shuffled, (Ids{2, 3, 4}));
  table.erase("limit_dataset_samples");
  Ids first = all_of(*open_dataset("column_mapped", table, context_));
  table.set("split", "train[:10%]+train[50%:]");
  Ids second = all_of(*open_dataset("column_mapped", table, context_));
  first.insert(first.end(), second.begin(), second.end());
  EXPECT_EQ(std::set<std::int64_t>(first.begin(), first.end()).size(), 20U);
}

TEST_F(Numbered, AStreamIsShuffledThroughItsBufferAndGoesOnWhereItStopped) {
  folder_.write("a.jsonl", lines(0, 30));
  folder_.write("b.jsonl.gz", testing::gzipped(lines(30, 50)));
  Table table = config(folder_.file(""));
  table.set("streaming", true);
  table.set("shuffle_buffer_size", 8);
  const auto stream = open_dataset("column_mapped", table, context_);
  EXPECT_EQ(stream->size(), Dataset::kEndless);
  EXPECT_TRUE(stream->keeps_order());
  const Ids order = all_of(*stream, 120);
  // Each epoch holds every record once; what comes out was among the first 8 that were left.
  for (std::size_t epoch = 0; epoch < 2; ++epoch) {
    const std::set<std::int64_t> seen(order.begin() + static_cast<std::ptrdiff_t>(50 * epoch),
                                      order.begin() + static_cast<std::ptrdiff_t>(50 * epoch + 50));
    EXPECT_EQ(seen.size(), 50U);
  }
  for (std::size_t i = 0; i < 50; ++i) EXPECT_LT(order[i], static_cast<std::int64_t>(i) + 8);
  EXPECT_NE(Ids(order.begin(), order.begin() + 50), Ids(order.begin() + 50, order.begin() + 100));
  Ids sorted(order.begin(), order.begin() + 50);
  std::sort(sorted.begin(), sorted.end());
  EXPECT_NE(Ids(order.begin(), order.begin() + 50), sorted);
  // Another process, asked for a later place, and back.
  const auto again = open_dataset("column_mapped", table, context_);
  for (const std::int64_t number : {77, 78, 76, 3, 119})
    EXPECT_EQ(number_of(again->get(number)), order[static_cast<std::size_t>(number)]) << number;

  table.set("shuffle_buffer_size", 0);
  table.set("limit_dataset_samples", 4);
  EXPECT_EQ(all_of(*open_dataset("column_mapped", table, context_), 6), (Ids{0, 1, 2, 3, 0, 1}));
  table.set("split", "train[:10%]");
  EXPECT_NE(message_of([&] {
              open_dataset("column_mapped", table, context_);
            }).find("needs to know the number of records"),
            std::string::npos);
}

TEST_F(Numbered, AStreamNamesTheLineOfABadRecord) {
  Table table = config(folder_.write("a.jsonl", lines(0, 3) + "{\"q\": \"n\"}\n{broken\n"));
  table.set("streaming", true);
  table.set("shuffle_buffer_size", 0);
  const auto stream = open_dataset("column_mapped", table, context_);
  EXPECT_NE(message_of([&] { stream->get(3); }).find("a.jsonl:4"), std::string::npos);
  EXPECT_NE(message_of([&] { stream->get(4); }).find("a.jsonl:5"), std::string::npos);
}

/// Samples of given lengths; token i of sample n is 1000 n + i, all learnt.
class Lengths final : public Dataset {
 public:
  explicit Lengths(Ids lengths, std::vector<std::string> files = {})
      : lengths_(std::move(lengths)), files_(std::move(files)) {}
  void open(const DatasetContext&) override {}
  std::int64_t size() const override { return static_cast<std::int64_t>(lengths_.size()); }
  std::vector<std::string> files() const override { return files_; }
  Sample get(std::int64_t index) const override {
    ++made;
    Sample sample;
    for (std::int64_t i = 0; i < lengths_[static_cast<std::size_t>(index)]; ++i)
      sample.input_ids.push_back(1000 * index + i);
    sample.labels = sample.input_ids;
    return sample;
  }
  mutable std::atomic<int> made = 0;

 private:
  Ids lengths_;
  std::vector<std::string> files_;
};

std::shared_ptr<Lengths> many_lengths(std::int64_t count) {
  Ids lengths;
  for (std::int64_t i = 0; i < count; ++i) lengths.push_back(3 + i * 7919 % 38);
  return std::make_shared<Lengths>(lengths);
}

/// Every real token of a batch, with its document's sample.
std::multiset<std::int64_t> tokens_of(const Batch& batch) {
  const at::Tensor ids = batch.get("input_ids");
  const at::Tensor mask = batch.get("attention_mask");
  std::multiset<std::int64_t> tokens;
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    if (!mask.defined() || mask.const_data_ptr<std::int64_t>()[i] != 0)
      tokens.insert(ids.const_data_ptr<std::int64_t>()[i]);
  }
  return tokens;
}

bool equal_batches(const StepBatches& a, const StepBatches& b) {
  if (a.batches.size() != b.batches.size()) return false;
  for (std::size_t i = 0; i < a.batches.size(); ++i) {
    for (const char* name : {"input_ids", "labels", "attention_mask", "cu_seqlens"}) {
      const at::Tensor x = a.batches[i].get(name);
      const at::Tensor y = b.batches[i].get(name);
      if (x.defined() != y.defined() ||
          (x.defined() && (x.sizes() != y.sizes() || !at::equal(x, y))))
        return false;
    }
  }
  return true;
}

LoaderOptions options_of(RowKind kind) {
  LoaderOptions options;
  options.rows_per_step = 6;
  options.rows_per_batch = 2;
  options.seed = 3;
  options.workers = 3;
  options.rows = {kind, 48, kind == RowKind::kBestFit || kind == RowKind::kByLength ? 40 : 1};
  return options;
}

class EveryRowKind : public ::testing::TestWithParam<RowKind> {};

TEST_P(EveryRowKind, AnEpochHoldsEveryTokenOnceAndNoRowIsTooLong) {
  const auto dataset = many_lengths(131);
  DataLoader loader(dataset, options_of(GetParam()));
  const std::int64_t steps = loader.steps_per_epoch();
  std::multiset<std::int64_t> tokens;
  for (std::int64_t step = 0; step < steps; ++step) {
    const StepBatches batches = loader.next();
    EXPECT_EQ(batches.epoch, 0);
    for (const Batch& batch : batches.batches) {
      EXPECT_LE(batch.get("input_ids").size(1), 48);
      tokens.merge(tokens_of(batch));
    }
  }
  EXPECT_EQ(loader.next().epoch, 1);
  std::multiset<std::int64_t> expected;
  for (std::int64_t i = 0; i < dataset->size(); ++i) {
    const Sample sample = dataset->get(i);
    expected.insert(sample.input_ids.begin(), sample.input_ids.end());
  }
  EXPECT_EQ(tokens, expected);
}

TEST_P(EveryRowKind, GoingOnAtAnyStepEqualsTheRunThatDidNotStop) {
  const auto dataset = many_lengths(67);
  DataLoader whole(dataset, options_of(GetParam()));
  LoaderState state;
  for (int step = 0; step < 40; ++step) {  // some epochs
    const StepBatches expected = whole.next();
    DataLoader resumed(dataset, options_of(GetParam()), state);
    const StepBatches found = resumed.next();
    EXPECT_TRUE(equal_batches(expected, found)) << step;
    EXPECT_EQ(expected.epoch, found.epoch) << step;
    state = expected.after;
  }
}

TEST_P(EveryRowKind, RanksShareTheRowsOfOneProcessWhateverTheirNumber) {
  const auto dataset = many_lengths(67);
  for (const std::int64_t world : {2, 3}) {
    DataLoader alone(dataset, options_of(GetParam()));
    std::vector<std::unique_ptr<DataLoader>> ranks;
    for (std::int64_t rank = 0; rank < world; ++rank) {
      LoaderOptions options = options_of(GetParam());
      options.share_index = rank;
      options.share_count = world;
      ranks.push_back(std::make_unique<DataLoader>(dataset, options));
    }
    for (int step = 0; step < 25; ++step) {
      std::multiset<std::int64_t> expected;
      std::multiset<std::int64_t> joined;
      for (const Batch& batch : alone.next().batches) expected.merge(tokens_of(batch));
      std::set<std::size_t> counts;
      for (const auto& rank : ranks) {
        const StepBatches own = rank->next();
        counts.insert(own.batches.size());
        for (const Batch& batch : own.batches) {
          if (!batch.filler) joined.merge(tokens_of(batch));
        }
      }
      EXPECT_EQ(expected, joined) << world << " ranks, step " << step;
      EXPECT_EQ(counts.size(), 1U) << "every rank has as many micro-batches";
    }
  }
}

std::string name_of_kind(const ::testing::TestParamInfo<RowKind>& info) {
  constexpr std::array<const char*, 4> kNames = {"Sample", "Sequential", "BestFit", "ByLength"};
  return kNames[static_cast<std::size_t>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryRowKind,
                         ::testing::Values(RowKind::kSample, RowKind::kSequential,
                                           RowKind::kBestFit, RowKind::kByLength),
                         name_of_kind);

TEST(Packing, BestFitPutsTheLongestFirstIntoTheFullestRowWithRoom) {
  using Rows = std::vector<std::vector<std::size_t>>;
  EXPECT_EQ(pack_best_fit(Ids{5, 4, 3, 3, 2, 1}, 8), (Rows{{0, 2}, {1, 3, 5}, {4}}));
  EXPECT_EQ(pack_best_fit(Ids{5, 3, 4, 2}, 6), (Rows{{0}, {1}, {2, 3}}));
  EXPECT_EQ(pack_best_fit(Ids{7, 2, 9}, 8), (Rows{{0}, {1}, {2}}));
  EXPECT_EQ(pack_best_fit(Ids{4, 4, 4, 4}, 8), (Rows{{0, 1}, {2, 3}}));
}

TEST(Packing, BestFitWastesLessThanSequential) {
  Ids lengths;
  for (std::int64_t i = 0; i < 1000; ++i) lengths.push_back(10 + i * 7919 % 500);
  const std::int64_t sequential = count_rows(lengths, {RowKind::kSequential, 1024, 1});
  const std::int64_t best_fit = count_rows(lengths, {RowKind::kBestFit, 1024, 1000});
  const auto tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  EXPECT_LT(best_fit, sequential);
  EXPECT_GT(static_cast<double>(tokens) / static_cast<double>(best_fit * 1024), 0.99);
}

TEST(Loader, SamplesOfLikeLengthShareSteps) {
  LoaderOptions options = options_of(RowKind::kByLength);
  options.rows.window = 60;
  DataLoader grouped(many_lengths(60), options);
  DataLoader plain(many_lengths(60), options_of(RowKind::kSample));
  const auto places = [](DataLoader& loader) {
    std::int64_t sum = 0;
    for (int step = 0; step < 10; ++step) {
      for (const Batch& batch : loader.next().batches) sum += batch.get("input_ids").numel();
    }
    return sum;
  };
  EXPECT_LT(places(grouped), places(plain) * 9 / 10);
}

TEST(Loader, PaddingFreeBatchesHoldTheSameDocumentsInOneRow) {
  LoaderOptions options = options_of(RowKind::kSample);
  DataLoader padded(many_lengths(20), options);
  options.collate.padding_free = true;
  DataLoader joined(many_lengths(20), options);
  const Batch one = padded.next().batches[0];
  const Batch other = joined.next().batches[0];
  EXPECT_EQ(other.get("input_ids").size(0), 1);
  EXPECT_EQ(other.get("input_ids").size(1), one.num_tokens);
  EXPECT_EQ(other.num_label_tokens, one.num_label_tokens);
  EXPECT_EQ(tokens_of(one), tokens_of(other));
  EXPECT_FALSE(other.get("attention_mask").defined());
  EXPECT_EQ(make_layout({other.tensors}).document_starts,
            make_layout({one.tensors}).document_starts);
}

TEST(Loader, ARankMakesOnlyItsOwnSamples) {
  const auto dataset = many_lengths(60);
  LoaderOptions options = options_of(RowKind::kSample);
  options.share_index = 1;
  options.share_count = 3;
  options.prefetch_samples = 6;
  DataLoader loader(dataset, options);
  for (int step = 0; step < 5; ++step) loader.next();
  EXPECT_LE(dataset->made, (5 + 1) * 2 + 2);
}

TEST(Loader, TheFirstBatchOf20000ChatsNeedsLessThanASecondOfTwoCores) {
  const testing::TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 20000; ++i) {
    const std::string number = std::to_string(i);
    lines +=
        R"({"messages": [{"role": "user", "content": "What does the worker bee number )" + number +
        R"( do in the winter?"}, {"role": "assistant", "content": "She keeps the queen warm, )" +
        number + R"(."}]})" + "\n";
  }
  const std::string path = folder.write("chat.jsonl", lines);
  const DatasetContext context = text_context("qwen2");
  for (const RowKind kind : {RowKind::kSample, RowKind::kBestFit}) {
    // Time of the processor: other work on the machine does not count.
    const std::clock_t start = std::clock();
    const auto dataset = open_dataset("chat", table_of({{"path", path}}), context);
    LoaderOptions options = options_of(kind);
    options.rows.capacity = 1024;
    options.max_length = 1024;
    DataLoader loader(dataset, options);
    EXPECT_GT(loader.steps_per_epoch(), 100);
    EXPECT_FALSE(loader.next().batches.empty());
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_LT(seconds, 2.0);
    RecordProperty(kind == RowKind::kSample ? "plain" : "packed", std::to_string(seconds));
    std::printf("%.2f s of CPU\n", seconds);
  }
}

class TokenCache : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> cached(const std::string& text = "config") {
    dataset_ = std::make_shared<Lengths>(lengths_, std::vector<std::string>{data_});
    return with_token_cache(dataset_,
                            {folder_.file("cache"), {}, {text}, [this](const std::string& line) {
                               const std::lock_guard lock(mutex_);
                               notes_.push_back(line);
                             }});
  }
  /// Makes the file and lets go of it.
  void fill() {
    const auto dataset = cached();
    EXPECT_EQ(dynamic_cast<const SampleLengths&>(*dataset).length(5), lengths_[5]);
  }
  std::filesystem::path file() const {
    std::filesystem::path found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.file("cache")))
      found = entry.path();
    return found;
  }
  /// True when samples come out of the file.
  bool is_used(const std::shared_ptr<const Dataset>& dataset) {
    const Sample sample = dataset->get(7);
    EXPECT_EQ(sample.input_ids, Lengths(lengths_).get(7).input_ids);
    EXPECT_EQ(sample.labels, sample.input_ids);
    return dataset_->made == 0;
  }

  testing::TemporaryFolder folder_;
  Ids lengths_ = Ids(2000, 11);
  std::string data_ = folder_.write("data", "the data");
  std::shared_ptr<Lengths> dataset_;
  std::mutex mutex_;
  std::vector<std::string> notes_;
};

TEST_F(TokenCache, ASecondRunReadsTheFileOfTheFirst) {
  fill();
  EXPECT_TRUE(is_used(cached()));
  EXPECT_TRUE(notes_.empty());
}

TEST_F(TokenCache, AnotherConfigOrChangedDataDoesNotUseIt) {
  fill();
  EXPECT_FALSE(is_used(cached("another")));
  folder_.write("data", "THE data");
  EXPECT_FALSE(is_used(cached()));
}

TEST_F(TokenCache, ADamagedFileIsMadeAnewWithALineThatSaysSo) {
  fill();
  const auto size = std::filesystem::file_size(file());
  std::filesystem::resize_file(file(), size / 2);
  fill();
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_NE(notes_[0].find("it is made anew"), std::string::npos) << notes_[0];
  EXPECT_EQ(std::filesystem::file_size(file()), size);
  EXPECT_TRUE(is_used(cached()));
}

TEST_F(TokenCache, WhereItCanNotBeWrittenTheRunGoesOn) {
  folder_.write("cache", "a file where the folder should be");
  const auto dataset = cached();
  EXPECT_EQ(dynamic_cast<const SampleLengths&>(*dataset).length(5), std::nullopt);
  EXPECT_FALSE(is_used(dataset));
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_NE(notes_[0].find("was not written"), std::string::npos) << notes_[0];
}

TEST_F(TokenCache, ARunThatEndsEarlyLeavesNothingBehind) {
  lengths_ = Ids(200000, 11);
  cached()->get(0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.file("cache")));
}

TEST(TokenCacheSamples, KeepEveryPartOfASample) {
  Sample sample;
  sample.input_ids = {5, 6, 7};
  sample.labels = {-100, 6, -100};
  sample.attention_mask = {1, 1, 0};
  sample.position_ids = {0, 0, 1};
  sample.document_starts = {0, 1};
  sample.labels_shifted = true;
  const Sample back = sample_from_numbers(sample_to_numbers(sample));
  EXPECT_EQ(back.input_ids, sample.input_ids);
  EXPECT_EQ(back.labels, sample.labels);
  EXPECT_EQ(back.attention_mask, sample.attention_mask);
  EXPECT_EQ(back.position_ids, sample.position_ids);
  EXPECT_EQ(back.document_starts, sample.document_starts);
  EXPECT_TRUE(back.labels_shifted);
}

class MixtureData : public Numbered {
 protected:
  /// Datasets of records [0, 12) and [100, 104), mixed.
  std::shared_ptr<const Dataset> mixture(Table config, bool streaming = false) {
    Table first = this->config(folder_.write("a.jsonl", lines(0, 12)));
    const Table second = this->config(folder_.write("b.jsonl", lines(100, 104)));
    if (streaming) {
      first.set("streaming", true);
      first.set("shuffle_buffer_size", 0);
    }
    const std::vector<Table> tables = {first, second};
    Array parts;
    for (Table part : tables) {
      part.set("type", "column_mapped");
      parts.emplace_back(std::move(part));
    }
    config.set("datasets", std::move(parts));
    DatasetContext context = context_;
    context.open_part = [this, tables](const std::string& path) {
      return open_dataset("column_mapped", tables[path == "datasets[0]" ? 0 : 1], context_);
    };
    return open_dataset("mixture", config, context);
  }
};

TEST_F(MixtureData, WithoutWeightsEverySampleComesOnce) {
  Ids all = all_of(*mixture({}));
  EXPECT_EQ(std::count_if(all.begin(), all.begin() + 8, [](auto n) { return n >= 100; }), 2);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (Ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 100, 101, 102, 103}));
}

TEST_F(MixtureData, WeightsHoldFromTheBeginningUntilTheFirstOrTheLastIsUsedUp) {
  const Table halves = table_of({{"weights", Array{1.0, 1.0}}});
  EXPECT_EQ(all_of(*mixture(halves)), (Ids{0, 100, 1, 101, 2, 102, 3, 103, 4}));
  Table all = halves;
  all.set("stop", "all_exhausted");
  const Ids order = all_of(*mixture(all));
  EXPECT_GE(order.size(), 23U);
  EXPECT_LE(order.size(), 24U);
  std::multiset<std::int64_t> second;
  for (const std::int64_t n : order) {
    if (n >= 100) second.insert(n);
  }
  EXPECT_GE(second.count(100), 2U);
  EXPECT_NE(message_of([&] {
              mixture(table_of({{"weights", Array{1.0}}}));
            }).find("number of weights"),
            std::string::npos);
}

TEST_F(MixtureData, WithAStreamItIsEndlessAndTheSameEachTime) {
  const Table weights = table_of({{"weights", Array{3.0, 1.0}}});
  const auto first = mixture(weights, true);
  EXPECT_EQ(first->size(), Dataset::kEndless);
  const Ids order = all_of(*first, 80);
  EXPECT_EQ(std::count_if(order.begin(), order.end(), [](auto n) { return n >= 100; }), 20);
  const auto second = mixture(weights, true);
  for (const std::int64_t number : {60, 61, 5})
    EXPECT_EQ(number_of(second->get(number)), order[static_cast<std::size_t>(number)]);
}

TEST(DataReports, ShowWhatIsLearntAndWhatStandsOut) {
  const testing::TemporaryFolder folder;
  const std::string good =
      R"({"messages": [{"role": "user", "content": "who <leads>"}, {"role": "assistant", "content": "a queen"}]})";
  const std::string empty =
      R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]})";
  const std::string foreign =
      R"({"messages": [{"role": "user", "content": "<|eot_id|>"}, {"role": "assistant", "content": "y"}]})";
  const DatasetContext context = text_context("qwen2");
  const auto dataset =
      open_dataset("chat",
                   table_of({{"path", folder.write("c.jsonl", good + "\n" + good + "\n" + empty +
                                                                  "\n" + foreign + "\n")}}),
                   context);
  LoaderOptions options = options_of(RowKind::kSequential);
  options.shuffle = false;
  options.rows.capacity = 512;
  const DataReport report = report_on(dataset, options, context.tokenizer.get(), 1);
  std::set<std::string> kinds;
  for (const DataFinding& finding : report.findings) kinds.insert(finding.kind);
  EXPECT_EQ(kinds, (std::set<std::string>{"duplicate", "empty_answer", "template_mismatch"}));
  ASSERT_EQ(report.shown.size(), 1U);
  EXPECT_EQ(report.shown[0].documents.size(), 4U);
  const std::string text = report_text(report, false);
  EXPECT_NE(text.find("«a queen<|im_end|>"), std::string::npos) << text;
  EXPECT_NE(report_text(report, true).find("\033[1;32ma queen"), std::string::npos);
  const std::string page = report_page(report);
  EXPECT_NE(page.find(">a queen&lt;|im_end|&gt;"), std::string::npos);
  EXPECT_NE(page.find("who &lt;leads&gt;"), std::string::npos);
  EXPECT_EQ(report.to_value().find("samples")->as_int(), 4);
}

}  // namespace
}  // namespace espalier

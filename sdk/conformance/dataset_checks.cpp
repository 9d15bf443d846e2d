// What a loader relies on in a Dataset: a list of samples that is the same for every reader, in any
// order, from any thread, in any process. Shards over ranks and resuming follow from that.
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/conformance/plain_text.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/dataset.h"

namespace espalier::conformance {
namespace {

constexpr std::int64_t kMost = 50;  // samples that a check looks at

DatasetContext context_of(const Subject& subject) {
  DatasetContext context;
  context.tokenizer = byte_tokenizer();
  context.chat_template = plain_chat_template();
  context.model_folder = subject.folder;
  context.seed = subject.seed;
  return context;
}

std::shared_ptr<Dataset> opened(const Subject& subject) {
  auto dataset = subject.create<Dataset>();
  dataset->open(context_of(subject));
  return dataset;
}

std::int64_t looked_at(const Dataset& dataset) { return std::min(dataset.size(), kMost); }

bool equal(const Sample& a, const Sample& b) {
  return a.input_ids == b.input_ids && a.labels == b.labels &&
         a.attention_mask == b.attention_mask && a.position_ids == b.position_ids &&
         a.document_starts == b.document_starts && a.labels_shifted == b.labels_shifted;
}

std::string sample_name(std::int64_t index) { return "sample " + std::to_string(index); }

void check_sample(const Sample& sample, const std::string& name, Report& report) {
  const std::size_t length = sample.input_ids.size();
  if (length == 0) return report.fail(name + " is empty", "no tokens", "at least one token");
  if (sample.labels.size() != length)
    return report.fail(name + ": labels and input_ids differ in length",
                       std::to_string(sample.labels.size()) + " labels", std::to_string(length),
                       "one label a token, -100 where nothing is to be learnt");
  for (const auto* optional : {&sample.attention_mask, &sample.position_ids}) {
    if (!optional->empty() && optional->size() != length)
      report.fail(name + ": attention_mask or position_ids differ from input_ids in length",
                  std::to_string(optional->size()), std::to_string(length) + ", or empty");
  }
  const std::int64_t vocabulary = byte_tokenizer()->vocab_size();
  for (std::size_t i = 0; i < length; ++i) {
    const std::int64_t id = sample.input_ids[i];
    const std::int64_t label = sample.labels[i];
    const std::string place = name + ", position " + std::to_string(i);
    if (id < 0 || id >= vocabulary)
      return report.fail(place + ": an id outside of the vocabulary", std::to_string(id),
                         "0 to " + std::to_string(vocabulary - 1),
                         "ids come from the tokenizer of the context");
    if (label == kIgnoredLabel) continue;
    if (label < 0 || label >= vocabulary)
      return report.fail(place + ": a label outside of the vocabulary", std::to_string(label),
                         "-100, or 0 to " + std::to_string(vocabulary - 1));
    if (!sample.labels_shifted && label != id)
      return report.fail(place + ": a label that is not the token there", std::to_string(label),
                         std::to_string(id) + " or -100",
                         "labels are not shifted: labels[t] is input_ids[t]. A dataset that "
                         "shifts them sets labels_shifted");
  }
  std::int64_t before = -1;
  for (const std::int64_t start : sample.document_starts) {
    if (start <= before || start >= static_cast<std::int64_t>(length))
      return report.fail(name + ": document_starts do not rise within the sample",
                         std::to_string(start));
    before = start;
  }
}

void check_samples(const Subject& subject, Report& report) {
  const auto dataset = opened(subject);
  if (dataset->size() <= 0)
    return report.fail("the dataset is empty", std::to_string(dataset->size()) + " samples",
                       "at least one, from the data in conformance.json",
                       "give files in conformance.json that hold some samples");
  bool labelled = false;
  for (std::int64_t i = 0; i < looked_at(*dataset); ++i) {
    const Sample sample = dataset->get(i);
    check_sample(sample, sample_name(i), report);
    labelled = labelled || std::any_of(sample.labels.begin(), sample.labels.end(),
                                       [](std::int64_t label) { return label != kIgnoredLabel; });
    if (report.outcome() == Outcome::kFail) return;
  }
  if (!labelled)
    report.fail("no sample has a label", "-100 everywhere", "something to learn",
                "label the tokens of the answer");
}

void check_repeatable(const Subject& subject, Report& report) {
  const auto first = opened(subject);
  const auto second = opened(subject);  // what a resumed run, or another rank, has
  if (first->size() != second->size())
    return report.fail("a second instance has another number of samples",
                       std::to_string(second->size()), std::to_string(first->size()));
  for (std::int64_t i = looked_at(*first) - 1; i >= 0; --i) {
    const Sample sample = second->get(i);
    if (!equal(sample, first->get(i)))
      return report.fail(sample_name(i) + " differs between two instances", {}, "equal samples",
                         "draw randomness from CounterRandom(context.seed, index) alone");
    if (!equal(sample, second->get(i)))
      return report.fail(sample_name(i) + " differs between two calls", {}, "equal samples",
                         "keep no state between calls");
  }
}

void check_threads(const Subject& subject, Report& report) {
  const auto dataset = opened(subject);
  const std::int64_t size = looked_at(*dataset);
  std::vector<Sample> expected;
  for (std::int64_t i = 0; i < size; ++i) expected.push_back(dataset->get(i));
  constexpr int kThreads = 4;
  std::vector<std::string> wrong(kThreads);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      try {
        for (std::int64_t i = 0; i < 4 * size; ++i) {
          const std::int64_t index = (i * (t + 1) + t) % size;
          if (!equal(dataset->get(index), expected[static_cast<std::size_t>(index)]))
            wrong[static_cast<std::size_t>(t)] = sample_name(index) + " differs";
        }
      } catch (const std::exception& error) {
        wrong[static_cast<std::size_t>(t)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : wrong) {
    if (!text.empty())
      return report.fail("get gives other samples when four threads call it", text,
                         "what one thread gets", "get is const: change no member in it");
  }
}

void check_range(const Subject& subject, Report& report) {
  const auto dataset = opened(subject);
  for (const std::int64_t index : {std::int64_t{-1}, dataset->size()}) {
    try {
      dataset->get(index);
    } catch (const std::exception&) {
      continue;
    }
    report.warn("get(" + std::to_string(index) + ") of " + std::to_string(dataset->size()) +
                    " samples gives a sample",
                "ESPALIER_ASSERT(index >= 0 && index < size(), ...)");
  }
}

/// A tokenizer that can't encode, and counts how often it was asked.
class ThrowingTokenizer final : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view, bool) const override { fail(); }
  Encoding encode_with_offsets(std::string_view, bool) const override { fail(); }
  int calls() const { return calls_; }
  std::string decode(const std::vector<std::int32_t>&, bool) const override { return {}; }
  std::int32_t token_to_id(std::string_view) const override { return -1; }
  std::string id_to_token(std::int32_t) const override { return {}; }
  std::int64_t vocab_size() const override { return 259; }
  std::int32_t bos_id() const override { return -1; }
  std::int32_t eos_id() const override { return -1; }
  std::int32_t pad_id() const override { return -1; }
  std::int32_t unk_id() const override { return -1; }

 private:
  [[noreturn]] void fail() const {
    ++calls_;
    throw std::runtime_error("injected failure");
  }
  mutable std::atomic<int> calls_ = 0;
};

void check_exceptions(const Subject& subject, Report& report) {
  DatasetContext context = context_of(subject);
  const auto tokenizer = std::make_shared<ThrowingTokenizer>();
  context.tokenizer = tokenizer;
  try {
    const auto dataset = subject.create<Dataset>();
    dataset->open(context);
    for (std::int64_t i = 0; i < looked_at(*dataset); ++i) dataset->get(i);
  } catch (const std::exception&) {
    return;
  }
  if (tokenizer->calls() == 0) return report.skip("the dataset does not use the tokenizer");
  report.fail("an exception of the tokenizer is swallowed",
              std::to_string(tokenizer->calls()) + " failed calls, and samples all the same",
              "the exception, passed on", "catch nothing that you can't mend");
}

void check_without_tokenizer(const Subject& subject, Report& report) {
  DatasetContext context = context_of(subject);
  context.tokenizer = nullptr;
  context.chat_template = nullptr;
  try {
    const auto dataset = subject.create<Dataset>();
    dataset->open(context);
    if (dataset->size() > 0) dataset->get(0);
    report.skip("the dataset needs no tokenizer");
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal)
      report.fail("without a tokenizer the dataset breaks", error.what(),
                  "Error(kBadInput) that says that the model has no tokenizer");
  } catch (const std::exception& error) {
    report.fail("without a tokenizer the dataset throws something else than Error", error.what(),
                "Error(kBadInput) that says that the model has no tokenizer");
  }
}

}  // namespace

std::span<const Check> dataset_checks() {
  static constexpr Check kChecks[] = {
      {"dataset.exceptions", 2, "an exception of the tokenizer passes through", check_exceptions},
      {"dataset.no_tokenizer", 2, "a model without a tokenizer is an Error or no matter",
       check_without_tokenizer},
      {"dataset.samples", 3, "ids, labels, masks and documents of a sample agree", check_samples},
      {"dataset.repeatable", 3, "every instance and call gives the same samples", check_repeatable},
      {"dataset.threads", 3, "several threads get what one gets", check_threads},
      {"dataset.range", 3, "an index outside of the data is refused", check_range},
  };
  return kChecks;
}

}  // namespace espalier::conformance

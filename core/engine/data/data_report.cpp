#include "engine/data/data_report.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

#include "engine/data/collate.h"
#include "espalier/base/error.h"
#include "espalier/base/random.h"
#include "espalier/data/prompt_answer.h"
#include "espalier/data/token_file.h"
#include "espalier/sdk/batch.h"

namespace espalier {
namespace {

constexpr std::int64_t kMostSamples = 20000;
constexpr std::size_t kExamples = 5;
constexpr std::int64_t kBuckets = 20;
/// An answer of no more learnt tokens than this is looked at as text.
constexpr std::int64_t kShortAnswer = 4;
/// So many samples are looked at as text for marks of a template of another model.
constexpr std::int64_t kReadSamples = 200;

struct SampleFacts {
  std::int64_t length = 0;
  std::int64_t cut_length = 0;
  std::int64_t labels = 0;  ///< after cutting
  std::uint64_t digest = 0;
  bool empty_answer = false;
  bool ends = false;  ///< a special token or the end of text is learnt last
  std::vector<std::string> foreign_marks;
  std::string failure;
};

std::int64_t count_labels(const Sample& sample) {
  // The first label of labels that are not shifted is predicted by nothing.
  const auto begin =
      sample.labels.begin() + (sample.labels_shifted || sample.labels.empty() ? 0 : 1);
  return std::count_if(begin, sample.labels.end(),
                       [](std::int64_t label) { return label != kIgnoredLabel; });
}

std::vector<std::int32_t> learnt_ids(const Sample& sample) {
  std::vector<std::int32_t> ids;
  for (const std::int64_t label : sample.labels) {
    if (label != kIgnoredLabel) ids.push_back(static_cast<std::int32_t>(label));
  }
  return ids;
}

/// Marks of the form <|name|> in the text that are no tokens here.
std::vector<std::string> foreign_marks(const std::string& text, const Tokenizer& tokenizer) {
  std::set<std::string> marks;
  for (std::size_t begin = text.find("<|"); begin != std::string::npos;
       begin = text.find("<|", begin + 2)) {
    const std::size_t end = text.find("|>", begin);
    constexpr std::size_t kLongestMark = 40;
    if (end == std::string::npos || end - begin > kLongestMark) continue;
    const std::string mark = text.substr(begin, end + 2 - begin);
    if (mark.find_first_of(" \n\t") == std::string::npos && tokenizer.token_to_id(mark) < 0)
      marks.insert(mark);
  }
  return {marks.begin(), marks.end()};
}

SampleFacts look_at(const Dataset& dataset, std::int64_t index, std::int64_t max_length,
                    const Tokenizer* tokenizer, bool read) {
  SampleFacts facts;
  Sample sample = dataset.get(index);
  facts.length = static_cast<std::int64_t>(sample.input_ids.size());
  facts.digest = hash_text({reinterpret_cast<const char*>(sample.input_ids.data()),
                            sample.input_ids.size() * sizeof(std::int64_t)});
  if (tokenizer != nullptr) {
    const std::vector<std::int32_t> learnt = learnt_ids(sample);
    const auto size = static_cast<std::int64_t>(learnt.size());
    if (size > 0 && size <= kShortAnswer)
      facts.empty_answer = stripped(tokenizer->decode(learnt, true)).empty();
    for (std::size_t back = 0; back < std::min<std::size_t>(2, learnt.size()); ++back) {
      const std::int32_t id = learnt[learnt.size() - 1 - back];
      // A special token leaves no text; a line break may follow the mark that ends a turn.
      facts.ends = facts.ends || id == tokenizer->eos_id() || tokenizer->decode({id}, true).empty();
    }
    if (read) {
      const std::vector<std::int32_t> ids(sample.input_ids.begin(), sample.input_ids.end());
      facts.foreign_marks = foreign_marks(tokenizer->decode(ids, false), *tokenizer);
    }
  }
  check_and_cut(sample, index, max_length);
  facts.cut_length = static_cast<std::int64_t>(sample.input_ids.size());
  facts.labels = count_labels(sample);
  return facts;
}

/// Collects findings of one kind.
class Finder {
 public:
  Finder(std::string kind, std::string text) : finding_{std::move(kind), std::move(text), 0, {}} {}
  void add(std::int64_t index) {
    ++finding_.count;
    if (finding_.examples.size() < kExamples) finding_.examples.push_back(index);
  }
  void put_into(std::vector<DataFinding>& findings) {
    if (finding_.count > 0) findings.push_back(std::move(finding_));
  }

 private:
  DataFinding finding_;
};

void find_mistakes(const std::vector<SampleFacts>& facts, const std::vector<std::int64_t>& indices,
                   const Tokenizer* tokenizer, DataReport& report) {
  Finder broken("broken", "samples that can't be made; training would stop at them");
  Finder masked("nothing_learnt", "samples without a token to learn");
  Finder empty("empty_answer", "samples whose learnt text is empty");
  Finder longer("over_long", "samples longer than " + std::to_string(report.max_length) +
                                 " tokens; what is behind is cut off");
  Finder duplicate("duplicate", "samples that are equal to an earlier one");
  std::set<std::string> marks;
  Finder foreign("template_mismatch",
                 "samples with marks that this tokenizer does not know as tokens");
  std::unordered_map<std::uint64_t, std::int64_t> seen;
  bool ends = tokenizer == nullptr;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    const SampleFacts& fact = facts[i];
    const std::int64_t index = indices[i];
    if (!fact.failure.empty()) {
      broken.add(index);
      continue;
    }
    if (fact.labels == 0) masked.add(index);
    if (fact.empty_answer) empty.add(index);
    if (fact.cut_length < fact.length) longer.add(index);
    if (!seen.emplace(fact.digest, index).second) duplicate.add(index);
    if (!fact.foreign_marks.empty()) foreign.add(index);
    marks.insert(fact.foreign_marks.begin(), fact.foreign_marks.end());
    ends = ends || fact.ends;
  }
  for (Finder* finder : {&broken, &masked, &empty, &longer, &duplicate, &foreign})
    finder->put_into(report.findings);
  for (DataFinding& finding : report.findings) {
    if (finding.kind != "template_mismatch") continue;
    std::string list;
    for (const std::string& mark : marks) list += (list.empty() ? ": " : ", ") + mark;
    finding.text += list;
  }
  if (!ends && !facts.empty()) {
    report.findings.push_back({"no_end",
                               "no sample teaches where an answer ends: its last learnt "
                               "token is never a special one",
                               1,
                               {}});
  }
}

/// Share of real tokens in batches of samples padded to the longest of each.
double padded_efficiency(const std::vector<std::int64_t>& lengths, std::int64_t rows_per_batch) {
  std::int64_t tokens = 0;
  std::int64_t places = 0;
  const auto step = static_cast<std::size_t>(rows_per_batch);
  for (std::size_t begin = 0; begin < lengths.size(); begin += step) {
    const std::size_t end = std::min(begin + step, lengths.size());
    std::int64_t longest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      tokens += lengths[i];
      longest = std::max(longest, lengths[i]);
    }
    places += longest * static_cast<std::int64_t>(end - begin);
  }
  return places == 0 ? 0.0 : static_cast<double>(tokens) / static_cast<double>(places);
}

std::string text_of(const std::vector<std::int32_t>& ids, const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) return tokenizer->decode(ids, false);
  std::string text;
  for (const std::int32_t id : ids) text += std::to_string(id) + " ";
  return text;
}

/// A row of a batch, cut into documents and runs. A token counts as learnt when it is predicted.
ShownRow shown_row(const Batch& batch, std::int64_t row, const Tokenizer* tokenizer) {
  const at::Tensor ids = batch.get("input_ids");
  const at::Tensor mask = batch.get("attention_mask");
  const at::Tensor boundaries = batch.get("cu_seqlens");
  const std::int64_t width = ids.size(1);
  const std::int64_t* id = ids.const_data_ptr<std::int64_t>() + row * width;
  const at::Tensor all_labels = batch.get("labels");
  const std::int64_t* labels = all_labels.const_data_ptr<std::int64_t>() + row * width;
  std::set<std::int64_t> starts = {0};
  if (boundaries.defined() && boundaries.dim() == 2) {
    const std::int64_t count = boundaries.size(1);
    const std::int64_t* edge = boundaries.const_data_ptr<std::int64_t>() + row * count;
    starts.insert(edge, edge + count);
  }
  ShownRow shown;
  shown.width = width;
  std::vector<std::int32_t> run;
  bool run_learnt = false;
  const auto end_run = [&] {
    if (run.empty()) return;
    ShownDocument& document = shown.documents.back();
    document.runs.push_back(
        {text_of(run, tokenizer), static_cast<std::int64_t>(run.size()), run_learnt});
    document.tokens += static_cast<std::int64_t>(run.size());
    if (run_learnt) document.learnt += static_cast<std::int64_t>(run.size());
    run.clear();
  };
  const auto add = [&](std::int64_t token, bool learnt) {
    if (learnt != run_learnt) end_run();
    run_learnt = learnt;
    run.push_back(static_cast<std::int32_t>(token));
  };
  for (std::int64_t t = 0; t < width; ++t) {
    const bool real = !mask.defined() || mask.const_data_ptr<std::int64_t>()[row * width + t] != 0;
    if (!real) continue;
    const bool begins = starts.contains(t) || shown.documents.empty();
    if (begins) {
      end_run();
      shown.documents.emplace_back();
    }
    const bool learnt = batch.labels_shifted ? !begins && labels[t - 1] != kIgnoredLabel
                                             : !begins && labels[t] != kIgnoredLabel;
    add(id[t], learnt);
    // The last label of a document is no input when labels are shifted.
    const bool last =
        t + 1 == width || starts.contains(t + 1) ||
        (mask.defined() && mask.const_data_ptr<std::int64_t>()[row * width + t + 1] == 0);
    if (batch.labels_shifted && last && labels[t] != kIgnoredLabel) add(labels[t], true);
  }
  end_run();
  return shown;
}

std::vector<ShownRow> first_rows(std::shared_ptr<const Dataset> dataset, LoaderOptions options,
                                 const Tokenizer* tokenizer, std::int64_t count) {
  std::vector<ShownRow> rows;
  if (count <= 0) return rows;
  options.rows_per_step = std::max(count, options.rows_per_batch);
  options.drop_last = false;
  DataLoader loader(std::move(dataset), options);
  for (const Batch& batch : loader.next().batches) {
    for (std::int64_t row = 0; row < batch.get("input_ids").size(0); ++row) {
      if (static_cast<std::int64_t>(rows.size()) < count)
        rows.push_back(shown_row(batch, row, tokenizer));
    }
  }
  return rows;
}

}  // namespace

std::int64_t DataReport::percentile(double share) const {
  if (lengths.empty()) return 0;
  const auto place =
      static_cast<std::size_t>(std::llround(share * static_cast<double>(lengths.size() - 1)));
  return lengths[std::min(place, lengths.size() - 1)];
}

std::vector<DataReport::Bucket> DataReport::histogram() const {
  std::vector<Bucket> buckets;
  if (lengths.empty()) return buckets;
  const std::int64_t step = lengths.back() / kBuckets + 1;
  for (std::int64_t from = 0; from <= lengths.back(); from += step)
    buckets.push_back({from, from + step, 0});
  for (const std::int64_t length : lengths)
    ++buckets[static_cast<std::size_t>(length / step)].count;
  return buckets;
}

DataReport report_on(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                     const Tokenizer* tokenizer, std::int64_t shown_rows) {
  DataReport report;
  const bool endless = dataset->size() == Dataset::kEndless;
  report.samples = endless ? -1 : dataset->size();
  report.max_length = options.max_length;
  const std::int64_t size = endless ? kMostSamples : dataset->size();
  report.looked_at = std::min(size, kMostSamples);
  // In the order of the first epoch, so that packing is that of training.
  std::vector<std::int64_t> indices;
  const bool shuffled = options.shuffle && !dataset->keeps_order();
  const std::vector<std::int64_t> order =
      shuffled && !endless ? shuffled_order(size, options.seed, 0) : std::vector<std::int64_t>();
  for (std::int64_t i = 0; i < report.looked_at; ++i)
    indices.push_back(order.empty() ? i : order[static_cast<std::size_t>(i)]);

  std::vector<SampleFacts> facts(indices.size());
  run_in_parallel(report.looked_at, [&](std::int64_t i) {
    SampleFacts& fact = facts[static_cast<std::size_t>(i)];
    try {
      fact = look_at(*dataset, indices[static_cast<std::size_t>(i)], options.max_length, tokenizer,
                     i < kReadSamples);
    } catch (const Error& error) {
      fact.failure = error.problems().front().what;
    }
  });

  std::vector<std::int64_t> lengths;
  for (const SampleFacts& fact : facts) {
    report.tokens += fact.cut_length;
    report.label_tokens += fact.labels;
    report.tokens_cut += fact.length - fact.cut_length;
    if (fact.cut_length < fact.length) ++report.truncated;
    report.lengths.push_back(fact.length);
    lengths.push_back(fact.cut_length);
  }
  std::sort(report.lengths.begin(), report.lengths.end());
  report.padded_efficiency = padded_efficiency(lengths, options.rows_per_batch);
  report.rows = count_rows(lengths, options.rows);
  if (options.rows.kind == RowKind::kSequential || options.rows.kind == RowKind::kBestFit) {
    report.packing = options.rows.kind == RowKind::kBestFit ? "best_fit" : "sequential";
    report.capacity = options.rows.capacity;
    report.packed_efficiency =
        static_cast<double>(report.tokens) / static_cast<double>(report.rows * report.capacity);
  }
  find_mistakes(facts, indices, tokenizer, report);
  const bool broken = !report.findings.empty() && report.findings.front().kind == "broken";
  if (!broken) report.shown = first_rows(std::move(dataset), options, tokenizer, shown_rows);
  return report;
}

}  // namespace espalier

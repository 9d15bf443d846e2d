#include "espalier/data/records.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace espalier {
namespace {

constexpr std::size_t kShownRecords = 10;
constexpr std::size_t kMostBadRecords = 100;   // a file of another kind is not read to its end
constexpr std::int64_t kRecordsPerTurn = 256;  // what a checking thread takes at a time

class ChainedRecords final : public RecordSource {
 public:
  ChainedRecords(std::vector<std::shared_ptr<const RecordSource>> sources,
                 std::optional<std::int64_t> limit)
      : sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      begins_.push_back(size_);
      size_ += source->size();
    }
    if (limit) size_ = std::min(size_, *limit);
  }

  std::int64_t size() const override { return size_; }
  Value record(std::int64_t index) const override {
    const std::size_t source = source_of(index);
    return sources_[source]->record(index - begins_[source]);
  }
  std::string where(std::int64_t index) const override {
    const std::size_t source = source_of(index);
    return sources_[source]->where(index - begins_[source]);
  }

 private:
  std::size_t source_of(std::int64_t index) const {
    const auto after = std::upper_bound(begins_.begin(), begins_.end(), index);
    return static_cast<std::size_t>(after - begins_.begin()) - 1;
  }

  std::vector<std::shared_ptr<const RecordSource>> sources_;
  std::vector<std::int64_t> begins_;
  std::int64_t size_ = 0;
};

class PickedRecords final : public RecordSource {
 public:
  PickedRecords(std::shared_ptr<const RecordSource> source, std::vector<std::int64_t> order)
      : source_(std::move(source)), order_(std::move(order)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(order_.size()); }
  Value record(std::int64_t index) const override {
    return source_->record(order_[static_cast<std::size_t>(index)]);
  }
  std::string where(std::int64_t index) const override {
    return source_->where(order_[static_cast<std::size_t>(index)]);
  }

 private:
  std::shared_ptr<const RecordSource> source_;
  std::vector<std::int64_t> order_;
};

/// What is wrong, by record, whichever thread found it.
class Findings {
 public:
  explicit Findings(const RecordSource& records) : records_(records) {}

  /// `placed`: the problems say already which record they are about.
  void add(std::int64_t index, const Error& error, bool placed) {
    const std::lock_guard lock(mutex_);
    ++bad_records_;
    if (problems_.size() == kShownRecords && index > problems_.rbegin()->first) return;
    problems_.emplace(index,
                      placed ? error.problems() : at_record(error, records_, index).problems());
    if (problems_.size() > kShownRecords) problems_.erase(std::prev(problems_.end()));
  }
  bool enough() const { return bad_records_ >= kMostBadRecords; }

  void throw_if_any() const {
    ProblemList all;
    std::set<std::pair<std::string, std::string>>
        said;  // the same mistake in each record is said once
    std::size_t shown = 0;
    for (const auto& [index, problems] : problems_) {
      const std::size_t before = said.size();
      for (const Problem& problem : problems) {
        if (said.emplace(problem.what, problem.found).second) all.add(problem);
      }
      if (said.size() > before) ++shown;
    }
    if (bad_records_ > shown) {
      const std::size_t others = bad_records_ - shown;
      all.add({.what = (enough() ? "at least " : "") + std::to_string(others) +
                       (others == 1 ? " further record is" : " further records are") + " wrong too",
               .hint = "mend the first ones, and see whether the others have the same cause"});
    }
    all.throw_if_any();
  }

 private:
  const RecordSource& records_;
  std::mutex mutex_;
  std::map<std::int64_t, std::vector<Problem>> problems_;
  std::atomic<std::size_t> bad_records_ = 0;
};

}  // namespace

RecordSource::~RecordSource() = default;

std::shared_ptr<const RecordSource> chain_records(
    std::vector<std::shared_ptr<const RecordSource>> sources, std::optional<std::int64_t> limit) {
  return std::make_shared<ChainedRecords>(std::move(sources), limit);
}

std::shared_ptr<const RecordSource> pick_records(std::shared_ptr<const RecordSource> source,
                                                 std::vector<std::int64_t> order) {
  return std::make_shared<PickedRecords>(std::move(source), std::move(order));
}

Error at_record(const Error& error, const RecordSource& records, std::int64_t index) {
  return at_place(error, records.where(index));
}

Error at_place(const Error& error, const std::string& place) {
  std::vector<Problem> problems = error.problems();
  for (Problem& problem : problems) {
    problem.where = problem.where.empty() ? place : place + " (" + problem.where + ")";
  }
  return Error(std::move(problems));
}

void check_records(const RecordSource& records,
                   const std::function<void(const Value& record)>& check) {
  Findings findings(records);
  std::atomic<std::int64_t> next = 0;
  std::exception_ptr failure;  // anything but an Error: a bug, or no memory
  std::mutex failure_mutex;
  const auto check_one = [&](std::int64_t index) {
    Value record;
    try {
      record = records.record(index);
    } catch (const Error& error) {
      findings.add(index, error, true);
      return;
    }
    try {
      check(record);
    } catch (const Error& error) {
      findings.add(index, error, false);
    }
  };
  const auto work = [&] {
    try {
      // A turn that was begun is ended, so that the first bad records are always the same.
      while (!findings.enough()) {
        const std::int64_t begin = next.fetch_add(kRecordsPerTurn);
        const std::int64_t end = std::min(begin + kRecordsPerTurn, records.size());
        if (begin >= end) return;
        for (std::int64_t index = begin; index < end; ++index) check_one(index);
      }
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      failure = std::current_exception();
    }
  };
  const std::int64_t turns = (records.size() + kRecordsPerTurn - 1) / kRecordsPerTurn;
  const std::int64_t cores = std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1, 8);
  std::vector<std::thread> helpers;
  for (std::int64_t i = 1; i < std::min(cores, turns); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
  findings.throw_if_any();
}

}  // namespace espalier

#include "engine/data/token_cache.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/data/loader.h"
#include "espalier/base/error.h"
#include "espalier/data/token_file.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

/// Counts up when samples are stored or made otherwise.
constexpr const char* kFormat = "espalier token cache 2";
constexpr std::int64_t kSamplesAtOnce = 512;

enum SampleFlag : std::int32_t {
  kShifted = 1,
  kHasMask = 2,
  kHasPositions = 4,
  kHasDocuments = 8,
  kHasNumbers = 16,
};

void append(const std::vector<std::int64_t>& list, std::vector<std::int32_t>& numbers) {
  for (const std::int64_t item : list) numbers.push_back(static_cast<std::int32_t>(item));
}

/// Count, and for each its name (length, characters) and the halves of its value.
void append(const std::vector<std::pair<std::string, double>>& values,
            std::vector<std::int32_t>& numbers) {
  numbers.push_back(static_cast<std::int32_t>(values.size()));
  for (const auto& [name, value] : values) {
    numbers.push_back(static_cast<std::int32_t>(name.size()));
    for (const char letter : name) numbers.push_back(static_cast<unsigned char>(letter));
    for (const std::int32_t half : std::bit_cast<std::array<std::int32_t, 2>>(value))
      numbers.push_back(half);
  }
}

std::pair<std::string, double> take_number(std::span<const std::int32_t>& numbers) {
  const auto length = static_cast<std::size_t>(numbers[0]);
  std::string name;
  for (const std::int32_t letter : numbers.subspan(1, length)) name += static_cast<char>(letter);
  const std::array<std::int32_t, 2> halves = {numbers[1 + length], numbers[2 + length]};
  numbers = numbers.subspan(3 + length);
  return {std::move(name), std::bit_cast<double>(halves)};
}

class CachedDataset final : public Dataset, public SampleLengths {
 public:
  CachedDataset(std::shared_ptr<const Dataset> dataset, const TokenCacheOptions& options)
      : dataset_(std::move(dataset)), note_(options.note) {
    std::vector<std::string> files = dataset_->files();
    files.insert(files.end(), options.files.begin(), options.files.end());
    std::vector<std::string> texts = options.texts;
    texts.emplace_back(kFormat);
    key_ = digest_of(files, texts);
    path_ = (fs::path(options.folder) / (key_.substr(0, 32) + ".tokens")).string();
    std::string why;
    if (adopt(why)) return;
    if (!why.empty() && options.makes_file)
      say("token cache " + path_ + " is not used: " + why + "; it is made anew");
    if (!options.makes_file) {
      done_ = true;
      return;
    }
    builder_ = std::thread([this] { build(); });
  }

  ~CachedDataset() override {
    stopping_ = true;
    if (builder_.joinable()) builder_.join();
  }

  void open(const DatasetContext&) override {}  // it is open already
  std::int64_t size() const override { return dataset_->size(); }
  bool keeps_order() const override { return dataset_->keeps_order(); }
  std::vector<std::string> files() const override { return dataset_->files(); }

  Sample get(std::int64_t index) const override {
    const std::shared_ptr<const TokenFile> tokens = std::atomic_load(&tokens_);
    return tokens == nullptr ? dataset_->get(index) : sample_from_numbers(tokens->list(index));
  }

  std::optional<std::int64_t> length(std::int64_t index) const override {
    std::shared_ptr<const TokenFile> tokens = std::atomic_load(&tokens_);
    if (tokens == nullptr) {
      // All are wanted now: the thread that writes the file makes them on all cores.
      hurry_ = true;
      std::unique_lock lock(mutex_);
      built_.wait(lock, [&] { return done_; });
      tokens = std::atomic_load(&tokens_);
      if (tokens == nullptr) return std::nullopt;
    }
    return tokens->list(index)[1];
  }

 private:
  void say(const std::string& line) const {
    if (note_) note_(line);
  }

  bool adopt(std::string& why) {
    std::optional<TokenFile> file = TokenFile::open(path_, key_, why);
    if (!file) return false;
    if (file->size() != dataset_->size()) {
      why = "it holds another number of samples";
      return false;
    }
    std::atomic_store(&tokens_, std::make_shared<const TokenFile>(*std::move(file)));
    const std::lock_guard lock(mutex_);
    done_ = true;
    return true;
  }

  void build() {
    try {
      write();
    } catch (const Error& error) {
      say("token cache " + path_ + " was not written: " + error.problems().front().what);
    } catch (const std::exception& error) {
      say("token cache " + path_ + " was not written: " + error.what());
    }
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    built_.notify_all();
  }

  void write() {
    std::error_code ignored;  // the file that can't be created then says what is wrong
    fs::create_directories(fs::path(path_).parent_path(), ignored);
    TokenFileWriter writer(path_, key_);
    std::vector<std::vector<std::int32_t>> lists;
    for (std::int64_t begin = 0; begin < size() && !stopping_; begin += kSamplesAtOnce) {
      const std::int64_t count = std::min(kSamplesAtOnce, size() - begin);
      lists.assign(static_cast<std::size_t>(count), {});
      const auto make = [&](std::int64_t i) {
        if (!stopping_)
          lists[static_cast<std::size_t>(i)] = sample_to_numbers(dataset_->get(begin + i));
      };
      if (hurry_) {
        run_in_parallel(count, make);
      } else {
        for (std::int64_t i = 0; i < count; ++i) make(i);
      }
      for (const std::vector<std::int32_t>& list : lists) writer.append(list);
    }
    if (stopping_) return;
    writer.commit();
    std::string why;
    adopt(why);
  }

  std::shared_ptr<const Dataset> dataset_;
  std::function<void(const std::string&)> note_;
  std::string key_;
  std::string path_;
  std::shared_ptr<const TokenFile> tokens_;  ///< null until there is a file; atomic
  std::atomic<bool> stopping_ = false;
  mutable std::atomic<bool> hurry_ = false;
  mutable std::mutex mutex_;
  mutable std::condition_variable built_;
  bool done_ = false;  ///< the file is there, or will not be
  std::thread builder_;
};

}  // namespace

std::vector<std::int32_t> sample_to_numbers(const Sample& sample) {
  std::int32_t flags = sample.labels_shifted ? kShifted : 0;
  if (!sample.attention_mask.empty()) flags |= kHasMask;
  if (!sample.position_ids.empty()) flags |= kHasPositions;
  if (!sample.document_starts.empty()) flags |= kHasDocuments;
  if (!sample.numbers.empty()) flags |= kHasNumbers;
  std::vector<std::int32_t> numbers = {flags, static_cast<std::int32_t>(sample.input_ids.size())};
  if (!sample.numbers.empty()) append(sample.numbers, numbers);
  for (const auto* list : {&sample.input_ids, &sample.labels, &sample.attention_mask,
                           &sample.position_ids, &sample.document_starts})
    append(*list, numbers);
  return numbers;
}

Sample sample_from_numbers(std::span<const std::int32_t> numbers) {
  Sample sample;
  const std::int32_t flags = numbers[0];
  const auto length = static_cast<std::size_t>(numbers[1]);
  numbers = numbers.subspan(2);
  const auto take = [&](std::vector<std::int64_t>& list, std::size_t count) {
    list.assign(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(count));
    numbers = numbers.subspan(count);
  };
  sample.labels_shifted = (flags & kShifted) != 0;
  if ((flags & kHasNumbers) != 0) {
    const std::int32_t count = numbers[0];
    numbers = numbers.subspan(1);
    for (std::int32_t i = 0; i < count; ++i) sample.numbers.push_back(take_number(numbers));
  }
  take(sample.input_ids, length);
  take(sample.labels, length);
  if ((flags & kHasMask) != 0) take(sample.attention_mask, length);
  if ((flags & kHasPositions) != 0) take(sample.position_ids, length);
  if ((flags & kHasDocuments) != 0) take(sample.document_starts, numbers.size());
  return sample;
}

std::shared_ptr<const Dataset> with_token_cache(std::shared_ptr<const Dataset> dataset,
                                                const TokenCacheOptions& options) {
  if (dataset->files().empty()) return dataset;
  return std::make_shared<CachedDataset>(std::move(dataset), options);
}

}  // namespace espalier

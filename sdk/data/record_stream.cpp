#include "espalier/data/record_stream.h"

#include <algorithm>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/data/data_file.h"
#include "espalier/data/json_records.h"
#include "espalier/data/source_files.h"

namespace espalier {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 18;
constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
/// Records kept for threads that ask for a number later than others did for the next ones.
constexpr std::int64_t kKeptBehind = 4096;

}  // namespace

/// The lines of one file.
struct RecordReader::Lines {
  explicit Lines(const std::string& path) : stream(path) {}

  /// False at the end.
  bool next(std::string& line) {
    while (true) {
      const std::size_t end = text.find('\n', place);
      if (end != std::string::npos) {
        line.assign(text, place, end - place);
        place = end + 1;
        ++number;
        return true;
      }
      text.erase(0, place);
      place = 0;
      if (const std::size_t count = stream.read(part)) {
        text.append(part.data(), count);
        continue;
      }
      if (text.empty()) return false;
      line = std::exchange(text, {});
      ++number;
      return true;
    }
  }

  ByteStream stream;
  std::vector<char> part = std::vector<char>(kReadBytes);
  std::string text;
  std::size_t place = 0;
  std::size_t number = 0;  ///< of the line that came last
};

RecordReader::RecordReader(std::vector<std::string> files, OpenFile open_file)
    : files_(std::move(files)), open_file_(std::move(open_file)) {}

RecordReader::~RecordReader() = default;

void RecordReader::restart() {
  next_file_ = 0;
  lines_.reset();
  source_.reset();
}

void RecordReader::open_next_file() {
  const std::string& path = files_[next_file_++];
  const std::string name = content_name(path);
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) {
    lines_ = std::make_unique<Lines>(path);
  } else {
    source_ = open_file_(path);
    next_record_ = 0;
  }
}

std::optional<StreamRecord> RecordReader::next() {
  while (true) {
    if (lines_ != nullptr) {
      StreamRecord record;
      while (lines_->next(record.text)) {
        if (lines_->number == 1 && record.text.starts_with(kByteOrderMark))
          record.text.erase(0, kByteOrderMark.size());
        if (record.text.find_first_not_of(kSpace) == std::string::npos) continue;
        record.where = lines_->stream.path() + ":" + std::to_string(lines_->number);
        return record;
      }
      lines_.reset();
    }
    if (source_ != nullptr && next_record_ < source_->size()) {
      const std::int64_t index = next_record_++;
      return StreamRecord{{}, source_->record(index), source_->where(index)};
    }
    source_.reset();
    if (next_file_ == files_.size()) return std::nullopt;
    open_next_file();
  }
}

RecordStream::RecordStream(std::unique_ptr<RecordReader> reader, StreamOptions options)
    : reader_(std::move(reader)), options_(options) {}

StreamRecord RecordStream::get(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  if (number < next_number_ && !pulled_.contains(number)) restart();
  while (next_number_ <= number) {
    pulled_.emplace(next_number_, pull());
    ++next_number_;
    pulled_.erase(pulled_.begin(), pulled_.lower_bound(next_number_ - kKeptBehind));
  }
  return std::move(pulled_.extract(number).mapped());
}

void RecordStream::restart() {
  pulled_.clear();
  next_number_ = 0;
  epoch_ = -1;
  buffer_.clear();
}

void RecordStream::begin_epoch() {
  ++epoch_;
  read_in_epoch_ = 0;
  drawn_in_epoch_ = 0;
  reader_->restart();
  const auto room =
      static_cast<std::size_t>(std::max<std::int64_t>(1, options_.shuffle_buffer_size));
  while (buffer_.size() < room) {
    std::optional<StreamRecord> record = read();
    if (!record) break;
    buffer_.push_back(*std::move(record));
  }
  if (buffer_.empty())
    throw_bad_input("the files hold no records", {}, "at least one", "the dataset's path");
}

std::optional<StreamRecord> RecordStream::read() {
  if (options_.limit && read_in_epoch_ >= *options_.limit) return std::nullopt;
  ++read_in_epoch_;
  return reader_->next();
}

StreamRecord RecordStream::pull() {
  if (buffer_.empty()) begin_epoch();
  const CounterRandom random(options_.seed, static_cast<std::uint64_t>(epoch_));
  const std::size_t slot = random.below(drawn_in_epoch_++, buffer_.size());
  StreamRecord record = std::move(buffer_[slot]);
  if (std::optional<StreamRecord> next = read()) {
    buffer_[slot] = *std::move(next);
  } else {
    if (slot + 1 != buffer_.size()) buffer_[slot] = std::move(buffer_.back());
    buffer_.pop_back();
  }
  return record;
}

Value value_of(StreamRecord record) {
  if (record.text.empty()) return std::move(record.value);
  const std::size_t colon = record.where.rfind(':');
  Value value = parse_record(record.text, record.where.substr(0, colon),
                             std::stoul(record.where.substr(colon + 1)));
  if (!value.is_table()) {
    throw_bad_input("a record is not an object", std::string(type_phrase(value.type())),
                    "an object: {\"name\": value, ...}", record.where);
  }
  return value;
}

}  // namespace espalier

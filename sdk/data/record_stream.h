#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/random.h"
#include "espalier/base/value.h"
#include "espalier/data/records.h"

namespace espalier {

/// A record that is not parsed yet, or already a value where its file had to be read whole.
struct StreamRecord {
  std::string text;  ///< JSON
  Value value;       ///< where `text` is empty
  std::string where;
};

/// Reads the records of files one after the other, and holds no more than one: JSON Lines are read
/// line by line, other files are opened whole by `open_file`. One thread at a time.
class ESPALIER_API RecordReader {
 public:
  using OpenFile = std::function<std::shared_ptr<const RecordSource>(const std::string& path)>;

  RecordReader(std::vector<std::string> files, OpenFile open_file);
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;
  ~RecordReader();

  /// nullopt after the last record. Throws Error.
  std::optional<StreamRecord> next();
  /// Goes back to the first record.
  void restart();

 private:
  struct Lines;

  void open_next_file();

  std::vector<std::string> files_;
  OpenFile open_file_;
  std::size_t next_file_ = 0;
  std::unique_ptr<Lines> lines_;
  std::shared_ptr<const RecordSource> source_;
  std::int64_t next_record_ = 0;
};

struct StreamOptions {
  std::int64_t shuffle_buffer_size = 0;  ///< 0: in file order
  std::uint64_t seed = 0;
  std::optional<std::int64_t> limit;  ///< records of an epoch
};

/// The endless order of records: epoch after epoch, each shuffled through a buffer: what comes out
/// is drawn from the buffer, and the next record takes its place. The order is a pure function of
/// the files, the seed and the size of the buffer, so a place in it is a number, and going on at a
/// number is reading up to it without parsing. Thread safe.
class ESPALIER_API RecordStream {
 public:
  RecordStream(std::unique_ptr<RecordReader> reader, StreamOptions options);

  /// Record `number` of the endless order. Fast for rising numbers; a number that is far behind the
  /// last one reads from the beginning. Throws Error, kBadInput where the files hold no records.
  StreamRecord get(std::int64_t number);

 private:
  StreamRecord pull();
  void restart();
  void begin_epoch();
  std::optional<StreamRecord> read();

  std::mutex mutex_;
  std::unique_ptr<RecordReader> reader_;
  StreamOptions options_;
  std::int64_t epoch_ = -1;
  std::int64_t read_in_epoch_ = 0;
  std::uint64_t drawn_in_epoch_ = 0;
  std::vector<StreamRecord> buffer_;
  std::int64_t next_number_ = 0;
  std::map<std::int64_t, StreamRecord> pulled_;  ///< out, but not asked for yet
};

/// Parses a record of a stream. Throws Error(kBadInput) with its place.
ESPALIER_API Value value_of(StreamRecord record);

}  // namespace espalier

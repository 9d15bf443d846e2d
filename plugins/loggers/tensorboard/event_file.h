#pragma once

#include <cstdint>
#include <string>

namespace espalier::tensorboard {

/// An event file of TensorBoard: records of TFRecord (length, its checksum, bytes, their checksum),
/// each a message `tensorflow.Event` of protobuf, encoded by hand. Sources:
/// tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, summary.proto.
class EventFile {
 public:
  /// Creates `path` and writes the version. Throws Error(kIo).
  explicit EventFile(const std::string& path);
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;
  ~EventFile();

  void add_scalar(const std::string& tag, std::int64_t step, float value);
  void add_text(const std::string& tag, std::int64_t step, const std::string& text);
  /// Readers forget what earlier files say of this step and later ones.
  void forget_from(std::int64_t step);
  void sync();

 private:
  void write_event(std::int64_t step, const std::string& content);

  std::string path_;
  int descriptor_ = -1;
};

/// CRC-32C (Castagnoli), as TFRecord masks it.
std::uint32_t masked_checksum(const std::string& bytes);

}  // namespace espalier::tensorboard

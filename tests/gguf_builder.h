#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/gguf.h"

namespace espalier::testing {

/// Writes GGUF files for tests, wrong ones too: nothing is checked.
class GgufBuilder {
 public:
  GgufBuilder& version(std::uint32_t version) {
    version_ = version;
    return *this;
  }

  /// Before the first tensor. Readers have to be told: general.alignment.
  GgufBuilder& alignment(std::uint32_t alignment) {
    alignment_ = alignment;
    return number("general.alignment", GgufType::kU32, alignment);
  }

  template <class T>
  GgufBuilder& number(std::string_view key, GgufType type, T value) {
    begin_entry(key, type);
    append(metadata_, value);
    return *this;
  }

  GgufBuilder& text(std::string_view key, std::string_view value) {
    begin_entry(key, GgufType::kString);
    append_text(metadata_, value);
    return *this;
  }

  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& values) {
    begin_array(key, GgufType::kString, values.size());
    for (const std::string& value : values) append_text(metadata_, value);
    return *this;
  }

  template <class T>
  GgufBuilder& numbers(std::string_view key, GgufType type, const std::vector<T>& values) {
    begin_array(key, type, values.size());
    for (const T& value : values) append(metadata_, value);
    return *this;
  }

  /// `shape` is row-major; `data` goes to the next aligned place, whatever `stated_offset` says.
  GgufBuilder& tensor(std::string_view name, GgmlType type, const std::vector<std::int64_t>& shape,
                      std::string_view data,
                      std::optional<std::uint64_t> stated_offset = std::nullopt) {
    data_.resize((data_.size() + alignment_ - 1) / alignment_ * alignment_);
    append_text(tensors_, name);
    append(tensors_, static_cast<std::uint32_t>(shape.size()));
    for (auto size = shape.rbegin(); size != shape.rend(); ++size)
      append(tensors_, static_cast<std::uint64_t>(*size));
    append(tensors_, static_cast<std::uint32_t>(type));
    append(tensors_, stated_offset.value_or(data_.size()));
    data_ += data;
    ++tensor_count_;
    return *this;
  }

  std::string build() const {
    std::string file = "GGUF";
    append(file, version_);
    append(file, tensor_count_);
    append(file, metadata_count_);
    file += metadata_;
    file += tensors_;
    file.resize((file.size() + alignment_ - 1) / alignment_ * alignment_);
    return file + data_;
  }

 private:
  template <class T>
  static void append(std::string& out, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof value);
    out.append(bytes, sizeof value);
  }

  static void append_text(std::string& out, std::string_view text) {
    append(out, static_cast<std::uint64_t>(text.size()));
    out += text;
  }

  void begin_entry(std::string_view key, GgufType type) {
    append_text(metadata_, key);
    append(metadata_, static_cast<std::uint32_t>(type));
    ++metadata_count_;
  }

  void begin_array(std::string_view key, GgufType item_type, std::uint64_t count) {
    begin_entry(key, GgufType::kArray);
    append(metadata_, static_cast<std::uint32_t>(item_type));
    append(metadata_, count);
  }

  std::size_t alignment_ = 32;
  std::uint32_t version_ = 3;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t metadata_count_ = 0;
  std::string metadata_;
  std::string tensors_;
  std::string data_;
};

}  // namespace espalier::testing

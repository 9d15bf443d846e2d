#include "espalier/data/token_file.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <filesystem>
#include <mutex>
#include <thread>

#include "espalier/base/sha256.h"

namespace espalier {
namespace {

constexpr std::string_view kMagic = "ESPTOK01";
constexpr std::size_t kDigestSize = 64;
constexpr std::size_t kHeaderSize = kMagic.size() + kDigestSize;
constexpr std::size_t kTailSize = 2 * sizeof(std::uint64_t) + kDigestSize;
constexpr std::int64_t kPartBytes = std::int64_t{4} << 20;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What the file's last digest is of: everything but the numbers themselves.
std::string index_digest(std::string_view key, std::span<const std::uint64_t> begins) {
  std::string text(kMagic);
  text += key;
  text += sha256(std::as_bytes(begins));
  return sha256(std::as_bytes(std::span(text)));
}

}  // namespace

// Numbers come first and their count last, because a writer does not know it before.
std::optional<TokenFile> TokenFile::open(const std::string& path, const std::string& key,
                                         std::string& why) {
  why.clear();
  std::error_code ignored;  // a file that can't be looked at is not there
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  TokenFile result{MappedFile(path)};
  const auto bytes = result.file_.bytes();
  const auto refuse = [&](const char* reason) {
    why = reason;
    return std::nullopt;
  };
  if (bytes.size() < kHeaderSize + kTailSize) return refuse("it is cut short");
  if (text_of(bytes.first(kMagic.size())) != kMagic) return refuse("it is of another kind");
  if (text_of(bytes.subspan(kMagic.size(), kDigestSize)) != key)
    return refuse("it was made from something else");
  const auto tail = bytes.last(kTailSize);
  std::uint64_t lists = 0;
  std::uint64_t numbers = 0;
  std::memcpy(&lists, tail.data(), sizeof lists);
  std::memcpy(&numbers, tail.data() + sizeof lists, sizeof numbers);
  const std::uint64_t room = bytes.size() - kHeaderSize - kTailSize;
  const std::uint64_t padded = (numbers + 1) / 2 * 2;
  const bool fits = lists < room / sizeof(std::uint64_t) &&
                    numbers <= room / sizeof(std::int32_t) &&
                    padded * sizeof(std::int32_t) + (lists + 1) * sizeof(std::uint64_t) == room;
  if (!fits) return refuse("it is cut short or damaged");
  const std::byte* first = bytes.data() + kHeaderSize;
  result.numbers_ = {reinterpret_cast<const std::int32_t*>(first), numbers};
  result.begins_ = {reinterpret_cast<const std::uint64_t*>(first + padded * sizeof(std::int32_t)),
                    lists + 1};
  if (text_of(tail.last(kDigestSize)) != index_digest(key, result.begins_) ||
      !std::is_sorted(result.begins_.begin(), result.begins_.end()) ||
      result.begins_.front() != 0 || result.begins_.back() != numbers)
    return refuse("it is damaged");
  return result;
}

std::span<const std::int32_t> TokenFile::list(std::int64_t index) const {
  const auto i = static_cast<std::size_t>(index);
  return numbers_.subspan(begins_[i], begins_[i + 1] - begins_[i]);
}

TokenFileWriter::TokenFileWriter(const std::string& path, const std::string& key)
    : file_(path), key_(key) {
  file_.append(kMagic);
  file_.append(key_);
}

void TokenFileWriter::append(std::span<const std::int32_t> list) {
  file_.append(std::as_bytes(list));
  begins_.push_back(begins_.back() + list.size());
}

void TokenFileWriter::commit() {
  const std::uint64_t numbers = begins_.back();
  const std::int32_t padding = 0;
  if (numbers % 2 != 0) file_.append(std::as_bytes(std::span(&padding, 1)));
  file_.append(std::as_bytes(std::span(begins_)));
  const std::uint64_t counts[] = {begins_.size() - 1, numbers};
  file_.append(std::as_bytes(std::span(counts)));
  file_.append(index_digest(key_, begins_));
  file_.commit();
}

std::string digest_of(const std::vector<std::string>& files,
                      const std::vector<std::string>& texts) {
  // Parts are digested on several threads: one thread alone takes seconds for a gigabyte.
  std::vector<MappedFile> mapped;
  std::vector<std::span<const std::byte>> parts;
  mapped.reserve(files.size());
  std::string all;
  for (const std::string& path : files) {
    auto rest = mapped.emplace_back(path).bytes();
    all += path + "\n" + std::to_string(rest.size()) + "\n";
    while (!rest.empty()) {
      const std::size_t size = std::min<std::size_t>(rest.size(), kPartBytes);
      parts.push_back(rest.first(size));
      rest = rest.subspan(size);
    }
  }
  std::vector<std::string> digests(parts.size());
  run_in_parallel(static_cast<std::int64_t>(parts.size()), [&](std::int64_t i) {
    digests[static_cast<std::size_t>(i)] = sha256(parts[static_cast<std::size_t>(i)]);
  });
  for (const std::string& digest : digests) all += digest + "\n";
  for (const std::string& text : texts) all += std::to_string(text.size()) + "\n" + text;
  return sha256(std::as_bytes(std::span(all)));
}

std::vector<std::string> tokenizer_files(const std::string& model_folder) {
  std::vector<std::string> files;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "special_tokens_map.json", "chat_template.jinja"}) {
    const std::filesystem::path file = std::filesystem::path(model_folder) / name;
    if (std::filesystem::exists(file)) files.push_back(file.string());
  }
  return files;
}

void run_in_parallel(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  std::atomic<std::int64_t> next = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  const auto run = [&] {
    try {
      for (std::int64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  const std::int64_t threads = std::min<std::int64_t>(
      std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1, 16), count);
  std::vector<std::thread> helpers;
  for (std::int64_t i = 1; i < threads; ++i) helpers.emplace_back(run);
  run();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace espalier

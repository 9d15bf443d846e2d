#include "espalier/base/served_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace espalier {
namespace {

namespace fs = std::filesystem;

/// The texts of a list of the table; empty where there is none.
std::vector<std::string> texts(const Table& serves, std::string_view kind) {
  std::vector<std::string> list;
  const Value* values = serves.find(kind);
  if (values == nullptr || !values->is_array()) return list;
  for (const Value& value : values->as_array()) {
    if (value.is_string()) list.push_back(value.as_string());
  }
  return list;
}

std::string lower_hex(std::string_view bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    text += kDigits[static_cast<unsigned char>(byte) >> 4U];
    text += kDigits[static_cast<unsigned char>(byte) & 0xFU];
  }
  return text;
}

bool begins_like(const fs::path& file, const std::vector<std::string>& magic) {
  if (magic.empty()) return true;
  std::size_t longest = 0;
  for (const std::string& one : magic) longest = std::max(longest, one.size() / 2);
  std::string begin(longest, '\0');
  std::ifstream stream(file, std::ios::binary);
  stream.read(begin.data(), static_cast<std::streamsize>(longest));
  begin.resize(static_cast<std::size_t>(stream.gcount()));
  const std::string found = lower_hex(begin);
  return std::any_of(magic.begin(), magic.end(),
                     [&](const std::string& one) { return found.starts_with(one); });
}

}  // namespace

std::vector<std::string> served_files(const Table& serves, const std::string& folder) {
  const std::vector<std::string> patterns = texts(serves, "files");
  const std::vector<std::string> magic = texts(serves, "magic");
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool fits =
        std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
          return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
        });
    std::error_code ignored;
    if (fits && entry->is_regular_file(ignored) && begins_like(entry->path(), magic))
      files.push_back(entry->path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace espalier

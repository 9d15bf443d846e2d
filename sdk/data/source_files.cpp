#include "espalier/data/source_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

struct SplitWord {
  std::string_view split;
  std::string_view word;
};
constexpr std::array<SplitWord, 10> kSplitWords = {{{"train", "train"},
                                                    {"train", "training"},
                                                    {"validation", "validation"},
                                                    {"validation", "valid"},
                                                    {"validation", "val"},
                                                    {"validation", "dev"},
                                                    {"test", "test"},
                                                    {"test", "testing"},
                                                    {"test", "eval"},
                                                    {"test", "evaluation"}}};

/// The split that a file's name tells, or "".
std::string_view split_of(const fs::path& file) {
  std::string name = file.filename().string();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::size_t begin = 0;
  while (begin < name.size()) {
    std::size_t end = begin;
    while (end < name.size() && std::isalpha(static_cast<unsigned char>(name[end])) != 0) ++end;
    for (const auto& [split, word] : kSplitWords) {
      if (std::string_view(name).substr(begin, end - begin) == word) return split;
    }
    begin = end + 1;
  }
  return {};
}

std::vector<std::string> files_of_pattern(const std::string& pattern) {
  glob_t found = {};
  std::vector<std::string> files;
  if (::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found) == 0) {
    for (std::size_t i = 0; i < found.gl_pathc; ++i) {
      if (!fs::is_directory(found.gl_pathv[i])) files.emplace_back(found.gl_pathv[i]);
    }
  }
  ::globfree(&found);
  return files;
}

std::vector<std::string> files_of_folder(const std::string& folder,
                                         const std::vector<std::string>& endings) {
  std::vector<std::string> files;
  auto entry = fs::recursive_directory_iterator(folder);
  for (; entry != fs::recursive_directory_iterator(); ++entry) {
    if (entry->path().filename().string().starts_with('.')) {
      if (entry->is_directory()) entry.disable_recursion_pending();
      continue;
    }
    if (!entry->is_regular_file()) continue;
    const std::string name = content_name(entry->path().string());
    if (std::any_of(endings.begin(), endings.end(),
                    [&](const std::string& ending) { return name.ends_with(ending); }))
      files.push_back(entry->path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Those of `files` that are of the split, where their names tell splits apart.
std::vector<std::string> of_split(const std::vector<std::string>& files, std::string_view split,
                                  std::string_view folder) {
  std::vector<std::string> chosen;
  std::vector<std::string> splits;
  const std::string_view word = split_of(std::string(split));
  for (const std::string& file : files) {
    const std::string_view told = split_of(file);
    if (!told.empty() && told == word) chosen.push_back(file);
    if (!told.empty()) splits.emplace_back(told);
  }
  if (!chosen.empty()) return chosen;
  if (splits.empty() && split == "train") return files;
  std::sort(splits.begin(), splits.end());
  splits.erase(std::unique(splits.begin(), splits.end()), splits.end());
  throw_bad_input(
      "the folder has no file of the split '" + std::string(split) + "'",
      splits.empty() ? "no file name that tells a split" : "files of " + join_names(splits),
      "names such as " + std::string(split) + "-00000.jsonl", std::string(folder),
      "name the files themselves in 'path', or another split");
}

void require_train(const std::string& path, std::string_view split) {
  if (split == "train") return;
  throw_bad_input("only a folder has splits by name", "split '" + std::string(split) + "'",
                  "train, or a folder as path", path,
                  "name the file of that split in 'path'; slices are written train[:10%]");
}

}  // namespace

std::vector<std::string> find_data_files(const std::vector<std::string>& paths,
                                         std::string_view split,
                                         const std::vector<std::string>& endings) {
  if (paths.empty()) {
    throw_bad_input("'path' names no file", "an empty list", "at least one file",
                    "the dataset's section of the recipe");
  }
  ProblemList problems;
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::vector<std::string> found;
    std::error_code ignored;  // what can't be looked at is not there
    if (fs::is_directory(path, ignored)) {
      found = files_of_folder(path, endings);
      if (found.empty()) {
        problems.add({.what = "the folder has no data files",
                      .expected = "files ending in " + join_names(endings) +
                                  ", also with .gz or .zst behind",
                      .where = path,
                      .hint = "name the files themselves in 'path'"});
        continue;
      }
      found = of_split(found, split, path);
    } else if (fs::exists(path, ignored) || path.find_first_of("*?[") == std::string::npos) {
      require_train(path, split);
      found = {path};
    } else {
      require_train(path, split);
      found = files_of_pattern(path);
      if (found.empty()) {
        problems.add({.what = "no file fits the pattern",
                      .found = path,
                      .expected = "at least one file",
                      .where = "the dataset's section of the recipe",
                      .hint = "a path is looked up from the folder that the program runs in"});
      }
    }
    files.insert(files.end(), found.begin(), found.end());
  }
  problems.throw_if_any();
  return files;
}

std::string content_name(std::string_view path) {
  std::string name(path);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string_view ending : {".gz", ".gzip", ".zst", ".zstd"}) {
    if (name.ends_with(ending)) {
      name.resize(name.size() - ending.size());
      break;
    }
  }
  return name;
}

}  // namespace espalier

// espalier plugins new: a folder with a plugin that builds, passes its tests and runs in a recipe.
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "app/options.h"
#include "app/plugins.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/location.h"
#include "espalier/base/suggest.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;

/// Files that every new plugin has, unless its kind has one of the same name.
constexpr const char* kCommon = "common";

/// An empty file in the folder of a kind whose plugins need no LibTorch; stays there.
constexpr const char* kNoTorch = "NO_TORCH";

fs::path template_folder() {
  return fs::path(library_folder()).parent_path() / "share" / "espalier" / "template";
}

/// The kinds are the folders there: a new interface brings a folder along.
std::vector<std::string> kinds() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(template_folder(), ignored)) {
    if (entry.is_directory() && entry.path().filename() != kCommon)
      names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void check_name(const std::string& name, const std::string& where) {
  const bool good = !name.empty() && std::islower(static_cast<unsigned char>(name[0])) != 0 &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_';
                    });
  if (!good)
    throw_bad_input("the name can't be that of a component", name,
                    "lower-case letters, digits and '_', with a letter first", where,
                    "such as focal_loss");
}

/// "focal_loss" -> "FocalLoss".
std::string pascal_case(const std::string& name) {
  std::string result;
  bool start = true;
  for (const char c : name) {
    if (c != '_') result += start ? static_cast<char>(std::toupper(c)) : c;
    start = c == '_';
  }
  return result;
}

std::string upper_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(c));
  return text;
}

using Words = std::vector<std::pair<std::string, std::string>>;

std::string filled(std::string text, const Words& words) {
  for (const auto& [mark, word] : words) {
    for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += word.size())
      text.replace(at, mark.size(), word);
  }
  return text;
}

void copy_filled(const fs::path& from, const fs::path& to, const Words& words) {
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    if (!entry.is_regular_file() || entry.path().filename() == kNoTorch) continue;
    const fs::path target = to / filled(fs::relative(entry.path(), from).string(), words);
    std::error_code error;
    fs::create_directories(target.parent_path(), error);
    if (error) throw_io("create", target.parent_path().string(), error.value());
    write_file_atomically(target.string(), filled(read_file(entry.path().string()), words));
  }
}

}  // namespace

int new_plugin(const std::vector<std::string>& arguments) {
  std::string kind;
  std::string name;
  std::string vendor = "example";
  std::string output;
  const std::vector<std::string> known = kinds();
  Options options("plugins new KIND NAME",
                  "Makes a folder NAME with a small, complete plugin: one source, its CMake line, "
                  "its conformance test, a recipe that uses it, a README. It builds against the "
                  "installed SDK and passes its test as it is. KIND is one of " +
                      join_names(known) + ".");
  options.positional("KIND", kind, "what it is to be")
      .positional("NAME", name, "of the component, such as focal_loss")
      .value("vendor", vendor, "first part of the plugin's id (default example)")
      .value("output", output, "the folder to make (default NAME)");
  options.parse(arguments);
  if (std::find(known.begin(), known.end(), kind) == known.end())
    throw_bad_input("there is no kind of plugin '" + kind + "'", {},
                    known.empty() ? "a template, but " + template_folder().string() + " has none"
                                  : "one of " + join_names(known),
                    "the command line", did_you_mean(kind, known));
  check_name(name, "the command line");
  check_name(vendor, "--vendor");
  const fs::path folder = output.empty() ? fs::path(name) : fs::path(output);
  if (fs::exists(folder) && !fs::is_empty(folder))
    throw_bad_input("the folder is there already", folder.string(), "a new or empty folder",
                    "the command line", "choose another name, or --output DIR");

  const Words words = {
      {"{{name}}", name},
      {"{{Name}}", pascal_case(name)},
      {"{{NAME}}", upper_case(name)},
      {"{{vendor}}", vendor},
      {"{{no_torch}}",
       fs::exists(template_folder() / kind / kNoTorch) ? " " + std::string(kNoTorch) : ""},
      {"{{kind}}", filled(kind, {{"_", " "}})}};
  copy_filled(template_folder() / kCommon, folder, words);
  copy_filled(template_folder() / kind, folder, words);
  const std::string prefix = fs::path(library_folder()).parent_path().string();
  std::printf(
      "%s is ready. Next:\n\n"
      "  cd %s\n"
      "  cmake -S . -B build -DCMAKE_PREFIX_PATH=%s\n"
      "  cmake --build build\n"
      "  ctest --test-dir build --output-on-failure\n"
      "  espalier train recipe.toml --plugins build/%s.espalier.so\n",
      folder.string().c_str(), folder.string().c_str(), prefix.c_str(), name.c_str());
  return 0;
}

}  // namespace espalier::app

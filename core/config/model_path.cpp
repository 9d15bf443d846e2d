#include "config/model_path.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/suggest.h"

namespace espalier::config {
namespace {

namespace fs = std::filesystem;

fs::path hub_cache() {
  if (const char* cache = std::getenv("HF_HUB_CACHE"); cache != nullptr && *cache != '\0')
    return cache;
  if (const char* home = std::getenv("HF_HOME"); home != nullptr && *home != '\0')
    return fs::path(home) / "hub";
  const char* user = std::getenv("HOME");
  return fs::path(user == nullptr ? "." : user) / ".cache" / "huggingface" / "hub";
}

/// "models", "org/name" -> "models--org--name".
std::string cache_folder_name(const std::string& kind, const std::string& id) {
  std::string name = kind + "--";
  for (const char c : id) {
    if (c == '/') {
      name += "--";
    } else {
      name += c;
    }
  }
  return name;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    names.push_back(entry.path().filename().string());
  return names;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  return text;
}

}  // namespace

std::string resolve_model_path(const std::string& model) {
  std::error_code failure;
  const fs::file_status status = fs::status(model, failure);
  if (fs::is_directory(status)) return model;
  if (failure && failure.value() != ENOENT && failure.value() != ENOTDIR)
    throw_io("read", model, failure.value());
  if (fs::exists(status)) {
    throw_bad_input("the model is a file, not a folder", model, "a folder with config.json", model,
                    model.ends_with(".gguf")
                        ? "espalier import " + model + " DIR makes a model folder of it"
                        : "give the folder that the file is in");
  }
  const bool may_be_id =
      !model.empty() && model[0] != '/' && model[0] != '.' && model.find("..") == std::string::npos;
  if (!may_be_id)
    throw_bad_input("there is no model folder '" + model + "'", {}, "an existing folder", model,
                    "check the path; a hub id has neither a leading '/' nor '.'");

  const std::size_t at = model.find('@');
  const std::string id = model.substr(0, at);
  const std::string revision = at == std::string::npos ? "main" : model.substr(at + 1);
  const fs::path cached = hub_cache() / cache_folder_name("models", id);
  if (!fs::is_directory(cached)) {
    throw_bad_input("there is no model '" + model + "'", {},
                    "a folder, or a hub id in the local cache",
                    "./" + model + " and " + cached.string(),
                    "check the path, or download the model with the hub's client");
  }
  // A revision is a branch or tag (a file under refs/ with the commit) or the commit itself.
  const fs::path reference = cached / "refs" / revision;
  const std::string commit =
      fs::is_regular_file(reference) ? trimmed(read_file(reference.string())) : revision;
  const fs::path snapshot = cached / "snapshots" / commit;
  if (!fs::is_directory(snapshot)) {
    throw_bad_input(
        "the hub cache has no revision '" + revision + "' of '" + id + "'", {},
        "one of " + join_names(names_in(cached / "refs")) + " or a commit of snapshots/",
        cached.string());
  }
  return snapshot.string();
}

std::string find_cached_dataset(const std::string& id) {
  const fs::path cached = hub_cache() / cache_folder_name("datasets", id);
  const fs::path reference = cached / "refs" / "main";
  if (!fs::is_regular_file(reference)) return {};
  const fs::path snapshot = cached / "snapshots" / trimmed(read_file(reference.string()));
  return fs::is_directory(snapshot) ? snapshot.string() : std::string();
}

}  // namespace espalier::config

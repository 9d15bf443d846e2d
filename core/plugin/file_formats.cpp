#include "plugin/file_formats.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/served_files.h"
#include "espalier/base/suggest.h"

namespace espalier::plugin {
namespace {

constexpr std::string_view kTokenizers = TokenizerFormat::kInterface.name;
constexpr std::string_view kCheckpoints = CheckpointFormat::kInterface.name;

/// `tokenizer_class` of the folder; "" where it says none.
std::string tokenizer_class_of(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "tokenizer_config.json").string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  const Value config = read_json_file(path, {.allow_duplicate_keys = true});
  const Value* name = config.find("tokenizer_class");
  return name != nullptr && name->is_string() ? name->as_string() : std::string();
}

/// The only one, or none. Several are an error: there is no rule of precedence.
std::optional<ComponentRef> only_one(const std::vector<ComponentRef>& found, const char* what,
                                     const char* key, const std::string& folder) {
  if (found.empty()) return std::nullopt;
  if (found.size() == 1) return found.front();
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const ComponentRef& format : found) names.push_back(format.qualified_name());
  throw_bad_input(std::string("more than one plugin reads the ") + what + " of this folder",
                  join_names(names), "one of them", folder,
                  std::string("choose in the recipe, as ") + key + " = \"" + names.front() +
                      "\" in [model], or take the others out of the plugin folders");
}

}  // namespace

std::optional<ComponentRef> tokenizer_format_for(const Catalog& catalog, const std::string& folder,
                                                 const std::string& named) {
  if (!named.empty()) return catalog.component(kTokenizers, named, "model.tokenizer");
  std::vector<ComponentRef> found = catalog.components(kTokenizers);
  if (found.empty()) return std::nullopt;
  const std::string name = tokenizer_class_of(folder);
  const std::vector<ComponentRef> by_class =
      catalog.serving(kTokenizers, "tokenizer_classes", name);
  if (!by_class.empty()) return only_one(by_class, "tokenizer", "tokenizer", folder);
  std::erase_if(found, [&](const ComponentRef& format) {
    return served_files(format.component->serves, folder).empty();
  });
  return only_one(found, "tokenizer", "tokenizer", folder);
}

std::optional<ComponentRef> checkpoint_format_for(const Catalog& catalog, const std::string& folder,
                                                  const std::string& named) {
  const auto serves_none = [&](const ComponentRef& format) {
    return served_files(format.component->serves, folder).empty();
  };
  if (!named.empty()) {
    const ComponentRef format = catalog.component(kCheckpoints, named, "model.checkpoint_format");
    if (!serves_none(format)) return format;
    const Value* patterns = format.component->serves.find("files");
    throw_bad_input("the folder has no weights in the format '" + named + "'", {},
                    patterns == nullptr ? "a format that says which files it serves"
                                        : "a file that fits one of " + dump_json(*patterns),
                    folder, "check model.path and model.checkpoint_format");
  }
  std::vector<ComponentRef> found = catalog.components(kCheckpoints);
  std::erase_if(found, serves_none);
  return only_one(found, "weights", "checkpoint_format", folder);
}

std::shared_ptr<const Tokenizer> open_tokenizer(const PluginHost& host, const ComponentRef& format,
                                                const Value& config, const std::string& folder,
                                                Table special_tokens) {
  const std::vector<std::string> files = served_files(format.component->serves, folder);
  TokenizerFiles given;
  given.folder = folder;
  if (!files.empty()) given.file = files.front();
  given.special_tokens = std::move(special_tokens);
  std::shared_ptr<const Tokenizer> tokenizer =
      host.create<TokenizerFormat>(format, config)->open(given);
  if (tokenizer != nullptr) return tokenizer;
  throw Error(
      Problem{.code = ErrorCode::kBadPlugin,
              .what = "plugin '" + format.plugin->manifest.id + "' failed to make a tokenizer",
              .found = "a null pointer",
              .expected = "a tokenizer, or an Error",
              .where = folder,
              .hint = "report this to the plugin's author"});
}

}  // namespace espalier::plugin

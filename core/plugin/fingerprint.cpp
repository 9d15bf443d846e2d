#include "plugin/fingerprint.h"

#include <algorithm>
#include <utility>

#include "espalier/sdk/fingerprint.h"

namespace espalier::plugin {
namespace {

using Parts = std::vector<std::pair<std::string, std::string>>;

Parts split(std::string_view fingerprint) {
  Parts parts;
  while (!fingerprint.empty()) {
    const std::size_t end = std::min(fingerprint.find(';'), fingerprint.size());
    const std::string_view part = fingerprint.substr(0, end);
    const std::size_t equals = std::min(part.find('='), part.size());
    if (!part.empty())
      parts.emplace_back(part.substr(0, equals), part.substr(std::min(equals + 1, part.size())));
    fingerprint.remove_prefix(std::min(end + 1, fingerprint.size()));
  }
  return parts;
}

const std::string* find(const Parts& parts, std::string_view key) {
  for (const auto& [name, value] : parts) {
    if (name == key) return &value;
  }
  return nullptr;
}

/// What a key means, and what to run when it differs; `@` stands for the host's value.
struct KeyText {
  std::string_view key;
  std::string_view meaning;
  std::string_view remedy;
};

constexpr KeyText kKeyTexts[] = {
    {"cxxabi", "another C++ ABI", "rebuild the plugin with g++ or clang++"},
    {"stdlib", "another C++ standard library", "rebuild the plugin: clang++ -stdlib=@"},
    {"cxx11_abi", "another string and list ABI of libstdc++",
     "rebuild the plugin with -D_GLIBCXX_USE_CXX11_ABI=@"},
    {"glibcxx_debug", "another debug mode of libstdc++ containers",
     "rebuild the plugin without -D_GLIBCXX_DEBUG"},
    {"cxx", "another C++ standard", "rebuild the plugin with -std=c++20"},
    {"sdk_abi", "other SDK headers",
     "rebuild the plugin against this SDK: cmake -S PLUGIN -B build --fresh && cmake --build "
     "build"},
    {"torch", "another LibTorch",
     "rebuild the plugin against LibTorch @: cmake -S PLUGIN -B build --fresh "
     "-DESPALIER_LIBTORCH=DIR"},
    {"cuda", "another CUDA major version", "rebuild the plugin with the CUDA @ toolkit"},
};

std::string remedy_of(const KeyText* text, const std::string& host_value) {
  if (text == nullptr) return "use a newer Espalier, or rebuild the plugin against this one";
  if (text->key == "glibcxx_debug" && host_value == "1")
    return "rebuild the plugin with -D_GLIBCXX_DEBUG";
  if ((text->key == "torch" || text->key == "cuda") && host_value.empty())
    return "use a build of Espalier with " +
           std::string(text->key == "torch" ? "LibTorch" : "CUDA");
  std::string remedy(text->remedy);
  if (const std::size_t mark = remedy.find('@'); mark != std::string::npos)
    remedy.replace(mark, 1, host_value);
  return remedy;
}

}  // namespace

std::string host_fingerprint() {
  std::string text = ESPALIER_FINGERPRINT;
  if (const std::string_view cuda = ESPALIER_SDK_CUDA_MAJOR; !cuda.empty())
    text += ";cuda=" + std::string(cuda);
  return text;
}

std::vector<Problem> compare_fingerprints(std::string_view plugin_fingerprint,
                                          std::string_view host_fingerprint,
                                          const std::string& plugin, const std::string& path) {
  const Parts theirs = split(plugin_fingerprint);
  const Parts ours = split(host_fingerprint);
  std::vector<Problem> problems;
  const auto add = [&](const std::string& key, const std::string* found,
                       const std::string* wanted) {
    const auto* text = std::find_if(std::begin(kKeyTexts), std::end(kKeyTexts),
                                    [&](const KeyText& entry) { return entry.key == key; });
    if (text == std::end(kKeyTexts)) text = nullptr;
    const std::string meaning =
        text == nullptr ? "something that this program does not know" : std::string(text->meaning);
    problems.push_back({ErrorCode::kBadPlugin, "plugin '" + plugin + "' was built with " + meaning,
                        found == nullptr ? "no '" + key + "'" : key + "=" + *found,
                        wanted == nullptr ? "no '" + key + "'" : key + "=" + *wanted, path,
                        remedy_of(text, wanted == nullptr ? std::string() : *wanted)});
  };
  for (const auto& [key, value] : ours) {
    const std::string* found = find(theirs, key);
    const bool optional = key == "torch" || key == "cuda";
    if (found == nullptr ? !optional : *found != value) add(key, found, &value);
  }
  for (const auto& [key, value] : theirs) {
    if (find(ours, key) == nullptr) add(key, &value, nullptr);
  }
  return problems;
}

}  // namespace espalier::plugin

#include "text/conversion/folder_config.h"

#include <algorithm>
#include <charconv>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "text/special_tokens.h"

namespace espalier::text {
namespace {

/// Classes that follow from a model type: the type is theirs or starts with it ("t5", "gemma3").
constexpr std::string_view kByModelType[] = {"T5Tokenizer", "GemmaTokenizer"};
constexpr std::string_view kTokenizer = "Tokenizer";

std::string class_for_model_type(std::string_view type) {
  for (const std::string_view name : kByModelType) {
    std::string stem(name.substr(0, name.size() - kTokenizer.size()));
    std::transform(stem.begin(), stem.end(), stem.begin(),
                   [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    if (type.starts_with(stem)) return std::string(name);
  }
  return {};
}

const std::string* string_member(const Value& value, std::string_view key) {
  const Value* member = value.is_table() ? value.find(key) : nullptr;
  return member != nullptr && member->is_string() ? &member->as_string() : nullptr;
}

}  // namespace

FolderConfig::FolderConfig(const std::string& folder)
    : path_(folder + "/tokenizer_config.json"), config_(read_optional_json(path_)) {
  if (const std::string* name = string_member(config_, "tokenizer_class")) {
    class_ = *name;
    if (class_.ends_with("Fast")) class_.resize(class_.size() - 4);
    return;
  }
  const Value model = read_optional_json(folder + "/config.json");
  if (const std::string* type = string_member(model, "model_type"))
    class_ = class_for_model_type(*type);
}

bool FolderConfig::flag(std::string_view key, bool fallback) const {
  const Value* value = config_.is_table() ? config_.find(key) : nullptr;
  return value != nullptr && value->is_bool() ? value->as_bool() : fallback;
}

std::int64_t FolderConfig::integer(std::string_view key, std::int64_t fallback) const {
  const Value* value = config_.is_table() ? config_.find(key) : nullptr;
  return value != nullptr && value->is_int() ? value->as_int() : fallback;
}

std::string FolderConfig::token(std::string_view role, const std::string& fallback) const {
  const Value* value = config_.is_table() ? config_.find(role) : nullptr;
  if (value == nullptr) return fallback;
  if (const std::string* content = string_member(*value, "content")) return *content;
  return value->is_string() ? value->as_string() : std::string();
}

std::vector<std::pair<std::int64_t, Table>> FolderConfig::added_tokens() const {
  std::vector<std::pair<std::int64_t, Table>> tokens;
  const Value* added = config_.is_table() ? config_.find("added_tokens_decoder") : nullptr;
  if (added == nullptr || added->is_null()) return tokens;
  const std::string where = path_ + ": added_tokens_decoder";
  if (!added->is_table())
    throw_bad_input("a value has the wrong type", dump_json(*added).substr(0, 60),
                    "an object of ids and tokens", where);
  for (const auto& [key, value] : added->as_table()) {
    std::int64_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool is_id = parsed.ec == std::errc() && parsed.ptr == key.data() + key.size() && id >= 0;
    if (!is_id || string_member(value, "content") == nullptr)
      throw_bad_input("an added token is not an id with a content", key, R"("5": {"content": ...})",
                      where);
    tokens.emplace_back(id, value.as_table());
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return tokens;
}

}  // namespace espalier::text

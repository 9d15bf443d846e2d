#include "formats/gguf_pre_tokenizer.h"

#include <algorithm>
#include <iterator>

namespace espalier::formats {
namespace {

Table component(std::string_view type) {
  Table table;
  table.set("type", type);
  return table;
}

Value byte_level(bool use_regex) {
  Table table = component("ByteLevel");
  table.set("add_prefix_space", false);
  table.set("trim_offsets", true);
  table.set("use_regex", use_regex);
  return table;
}

Value split(std::string_view regex) {
  Table pattern;
  pattern.set("Regex", regex);
  Table table = component("Split");
  table.set("pattern", std::move(pattern));
  table.set("behavior", "Isolated");
  table.set("invert", false);
  return table;
}

Value digits() {
  Table table = component("Digits");
  table.set("individual_digits", true);
  return table;
}

Value sequence(Array parts) {
  Table table = component("Sequence");
  table.set("pretokenizers", std::move(parts));
  return table;
}

// The patterns are part of the published tokenizers: they decide which texts are one word.
constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4oWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekIdeographs = "[一-龥ࠀ-一가-퟿]+";

PreTokenizerLayout gpt2() { return {.pre_tokenizer = byte_level(true)}; }

PreTokenizerLayout single_digits() {
  return {.pre_tokenizer = sequence({digits(), byte_level(true)})};
}

PreTokenizerLayout words(std::string_view regex) {
  return {.pre_tokenizer = sequence({split(regex), byte_level(false)})};
}

PreTokenizerLayout llama3() {
  PreTokenizerLayout layout = words(kLlama3Words);
  layout.ignore_merges = true;
  layout.adds_bos = true;
  return layout;
}

PreTokenizerLayout cl100k() { return words(kLlama3Words); }

PreTokenizerLayout qwen2() {
  PreTokenizerLayout layout = words(kQwen2Words);
  layout.normalizer = component("NFC");
  return layout;
}

PreTokenizerLayout deepseek_r1_qwen() { return words(kQwen2Words); }

PreTokenizerLayout tekken() {
  PreTokenizerLayout layout = words(kTekkenWords);
  layout.ignore_merges = true;
  layout.adds_bos = true;
  return layout;
}

PreTokenizerLayout gpt4o() { return words(kGpt4oWords); }

PreTokenizerLayout deepseek3() {
  return {.pre_tokenizer = sequence({split(R"(\p{N}{1,3})"), split("[一-龥぀-ゟ゠-ヿ]+"),
                                     split(kDeepseek3Words), byte_level(false)})};
}

PreTokenizerLayout deepseek_coder() {
  return {.pre_tokenizer =
              sequence({split(R"([\r\n])"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"),
                        split(kDeepseekIdeographs), digits(), byte_level(false)})};
}

struct Row {
  std::string_view name;
  PreTokenizerLayout (*make)();
};

constexpr Row kRows[] = {
    {"gpt-2", gpt2},
    {"gpt2", gpt2},
    {"olmo", gpt2},
    {"phi-2", gpt2},
    {"smollm", single_digits},
    {"starcoder", single_digits},
    {"refact", single_digits},
    {"codeshell", single_digits},
    {"llama-bpe", llama3},
    {"llama3", llama3},
    {"llama-v3", llama3},
    {"dbrx", cl100k},
    {"smaug-bpe", cl100k},
    {"qwen2", qwen2},
    {"tekken", tekken},
    {"deepseek-r1-qwen", deepseek_r1_qwen},
    {"gpt-4o", gpt4o},
    {"deepseek-v3", deepseek3},
    {"default", gpt2},
    {"deepseek-coder", deepseek_coder},
};

/// \" is a quotation mark in a pattern, as it is without the backslash.
std::string without_needless_escapes(std::string pattern) {
  for (std::size_t i = pattern.find("\\\""); i != std::string::npos; i = pattern.find("\\\"", i))
    pattern.erase(i, 1);
  return pattern;
}

/// Without what does not change where texts are split.
Value essence(const Value& component) {
  if (!component.is_table()) return component;
  Table kept;
  for (const auto& [key, value] : component.as_table()) {
    if (key == "trim_offsets" || value.is_null()) continue;
    if (value.is_array()) {
      Array parts;
      for (const Value& part : value.as_array()) parts.push_back(essence(part));
      if (parts.empty()) return {};  // a sequence of nothing
      if (parts.size() == 1) return parts.front();
      kept.set(key, std::move(parts));
    } else if (key == "Regex" && value.is_string()) {
      kept.set(key, without_needless_escapes(value.as_string()));
    } else {
      kept.set(key, value.is_table() ? essence(value) : value);
    }
  }
  return kept;
}

/// Equal but for the order of keys.
bool same(const Value& left, const Value& right) {
  if (left.is_table() && right.is_table()) {
    if (left.as_table().size() != right.as_table().size()) return false;
    return std::all_of(left.as_table().begin(), left.as_table().end(), [&](const auto& entry) {
      const Value* other = right.find(entry.first);
      return other != nullptr && same(entry.second, *other);
    });
  }
  if (left.is_array() && right.is_array()) {
    return std::equal(left.as_array().begin(), left.as_array().end(), right.as_array().begin(),
                      right.as_array().end(), same);
  }
  return left == right;
}

}  // namespace

std::optional<std::string_view> name_pre_tokenizer(const Value& normalizer,
                                                   const Value& pre_tokenizer, bool ignore_merges) {
  for (const Row& row : kRows) {
    const PreTokenizerLayout layout = row.make();
    if (layout.ignore_merges == ignore_merges &&
        same(essence(layout.normalizer), essence(normalizer)) &&
        same(essence(layout.pre_tokenizer), essence(pre_tokenizer)))
      return row.name;
  }
  return std::nullopt;
}

std::optional<PreTokenizerLayout> find_pre_tokenizer(std::string_view name) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                 [&](const Row& candidate) { return candidate.name == name; });
  if (row == std::end(kRows)) return std::nullopt;
  return row->make();
}

}  // namespace espalier::formats

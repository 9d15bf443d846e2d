#include "plugin/model_config.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::plugin {
namespace {

namespace fs = std::filesystem;

// What a config.json may leave out, and a family of decoders reads.
constexpr std::array kCommonKeys = {"attention_bias",
                                    "attention_dropout",
                                    "bos_token_id",
                                    "eos_token_id",
                                    "head_dim",
                                    "hidden_act",
                                    "hidden_size",
                                    "id2label",
                                    "initializer_range",
                                    "intermediate_size",
                                    "label2id",
                                    "layer_types",
                                    "max_position_embeddings",
                                    "max_window_layers",
                                    "mlp_bias",
                                    "num_attention_heads",
                                    "num_hidden_layers",
                                    "num_key_value_heads",
                                    "num_labels",
                                    "pad_token_id",
                                    "partial_rotary_factor",
                                    "problem_type",
                                    "rms_norm_eps",
                                    "rope_parameters",
                                    "rope_scaling",
                                    "rope_theta",
                                    "router_aux_loss_coef",
                                    "sliding_window",
                                    "tie_word_embeddings",
                                    "use_cache",
                                    "use_sliding_window",
                                    "vocab_size"};

[[noreturn]] void refuse_folder(std::string what, const std::string& folder, std::string hint) {
  throw_bad_input(std::move(what), {},
                  "a folder with config.json, model.safetensors and tokenizer.json", folder,
                  std::move(hint));
}

/// Says what is there in place of a model.
[[noreturn]] void refuse_as_model(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(folder, failure))
    names.push_back(entry.path().filename().string());
  if (failure) throw_io("read", folder, failure.value());
  std::sort(names.begin(), names.end());
  if (names.empty())
    refuse_folder("the model folder is empty", folder, "check the path, or fetch the model again");
  const auto has = [&](const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (has("adapter_config.json")) {
    refuse_folder("the folder holds an adapter and no model of its own", folder,
                  "give the base model, and this folder as --adapter");
  }
  for (const std::string& name : names) {
    if (name.ends_with(".gguf"))
      refuse_folder("the folder holds a GGUF file and no config.json", folder,
                    "espalier import " + (fs::path(folder) / name).string() +
                        " DIR makes a model folder of it");
  }
  for (const std::string& name : names) {
    if (fs::exists(fs::path(folder) / name / "config.json", failure))
      refuse_folder("the model folder has no config.json", folder,
                    "give the folder '" + name + "' in it, which has one");
  }
  refuse_folder("the model folder has no config.json", folder,
                "fetch the folder again: a model can't be known without it");
}

std::vector<std::string> keys_of(const Table& table) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : table) keys.push_back(key);
  return keys;
}

bool same_kind(const Value& old, const Value& given) {
  if (old.is_null() || given.is_null()) return true;
  if (old.is_number())
    return given.is_number() && (!old.is_int() || given.is_int() || old.is_float());
  return old.type() == given.type();
}

class Merge {
 public:
  void tables(Table& target, const Table& overrides, const std::string& path) {
    for (const auto& [key, value] : overrides) {
      const std::string name = path + "." + key;
      Value* old = target.find(key);
      if (old == nullptr && !may_be_added(key, path)) {
        refuse_key(target, key, name, value);
      } else if (old != nullptr && old->is_table() && value.is_table()) {
        tables(old->as_table(), value.as_table(), name);
      } else if (old != nullptr && !same_kind(*old, value)) {
        problems_.add({ErrorCode::kBadInput, "'" + name + "' has another type than in config.json",
                       std::string(type_phrase(value.type())),
                       std::string(type_phrase(old->type())), value.position().to_string(),
                       "config.json has " + dump_json(*old)});
      } else {
        target.set(key, value);
      }
    }
  }
  void finish() const { problems_.throw_if_any(); }

 private:
  /// Labels and scalings have keys of their own: below them anything may be added.
  static bool may_be_added(const std::string& key, const std::string& path) {
    if (path.ends_with("rope_parameters") || path.ends_with("rope_scaling") ||
        path.ends_with("id2label") || path.ends_with("label2id"))
      return true;
    return std::find(kCommonKeys.begin(), kCommonKeys.end(), key) != kCommonKeys.end();
  }

  void refuse_key(const Table& target, const std::string& key, const std::string& name,
                  const Value& value) {
    std::vector<std::string> known = keys_of(target);
    known.insert(known.end(), kCommonKeys.begin(), kCommonKeys.end());
    std::string hint = did_you_mean(key, known);
    for (const auto& [outer, inner] : target) {
      if (inner.is_table() && inner.find(key) != nullptr)
        hint = "it is inside '" + outer + "': write " + name.substr(0, name.size() - key.size()) +
               outer + "." + key;
    }
    problems_.add({ErrorCode::kBadInput, "the model's config has no key '" + key + "'", name,
                   "a key of its config.json", value.position().to_string(), hint});
  }

  ProblemList problems_;
};

}  // namespace

Value read_model_config(const std::string& folder) {
  std::error_code failure;
  const fs::file_status status = fs::status(folder, failure);
  if (!fs::is_directory(status)) {
    if (failure && failure.value() != ENOENT) throw_io("read", folder, failure.value());
    refuse_folder(fs::exists(status) ? "the model is a file, not a folder"
                                     : "there is no model folder '" + folder + "'",
                  folder,
                  folder.ends_with(".gguf")
                      ? "espalier import " + folder + " DIR makes a model folder of it"
                      : "give a path to a folder, or a hub id that is in the local cache");
  }
  const std::string path = (fs::path(folder) / "config.json").string();
  if (!fs::exists(path, failure)) {
    if (failure && failure.value() != ENOENT) throw_io("read", path, failure.value());
    refuse_as_model(folder);
  }
  Value config = read_json_file(path, {.allow_duplicate_keys = true, .allow_nonfinite = true});
  if (!config.is_table()) {
    throw_bad_input("config.json is no JSON object", std::string(type_phrase(config.type())),
                    "{...}", path, "fetch the file again");
  }
  return config;
}

Value with_config_overrides(Value config, const Value& overrides) {
  if (!overrides.is_table() || overrides.as_table().empty()) return config;
  Table& table = config.as_table();
  Table wanted = overrides.as_table();
  Value* rotary = table.find("rope_parameters");
  const Value* base = wanted.find("rope_theta");
  const bool newer_form =
      rotary != nullptr && rotary->is_table() && rotary->find("rope_theta") != nullptr;
  if (base != nullptr && newer_form && !wanted.contains("rope_parameters")) {
    Table inner;
    inner.set("rope_theta", *base);
    wanted.erase("rope_theta");
    wanted.set("rope_parameters", std::move(inner));
  }
  Merge merge;
  merge.tables(table, wanted, "model.config");
  merge.finish();
  return config;
}

}  // namespace espalier::plugin

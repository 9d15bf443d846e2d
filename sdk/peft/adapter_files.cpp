#include "espalier/peft/adapter_files.h"

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"

namespace espalier::peft {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kShownNames = 5;

std::string some_names(const std::vector<std::string>& names) {
  const auto shown = static_cast<std::ptrdiff_t>(std::min(names.size(), kShownNames));
  const std::vector<std::string> first(names.begin(), names.begin() + shown);
  std::string text = join_names(first);
  if (names.size() > kShownNames)
    text += " and " + std::to_string(names.size() - kShownNames) + " more";
  return text;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

std::string weights_path(const std::string& folder) {
  const fs::path path = fs::path(folder) / "adapter_model.safetensors";
  if (fs::exists(path)) return path.string();
  const bool pickled = fs::exists(fs::path(folder) / "adapter_model.bin");
  throw_bad_input("the adapter folder has no adapter_model.safetensors",
                  pickled ? "adapter_model.bin" : "", "adapter_model.safetensors", folder,
                  pickled ? "save it again with a newer PEFT, which writes safetensors" : "");
}

/// Compares the file with what the adapter needs.
class FileCheck {
 public:
  FileCheck(const SafetensorsFile& file, std::string path) : file_(file), path_(std::move(path)) {}

  void expect(const DiskTensor& part) {
    expected_.push_back(part.name);
    const TensorInfo* info = file_.find(part.name);
    if (info == nullptr) {
      missing_.push_back(part.name);
      return;
    }
    const std::vector<std::int64_t> shape = disk_shape(part);
    if (info->shape != shape)
      add("tensor '" + part.name + "' has another shape than the model and the config say",
          shape_text(info->shape), shape_text(shape), "the adapter belongs to another base model");
  }

  /// Tensors that nothing expects, but copies of the base's weights.
  std::vector<std::string> finish() {
    std::vector<std::string> unexpected;
    std::vector<std::string> copies;
    for (const TensorInfo& info : file_.tensors()) {
      if (std::find(expected_.begin(), expected_.end(), info.name) != expected_.end()) continue;
      (info.name.ends_with(".base_layer.weight") ? copies : unexpected).push_back(info.name);
    }
    const std::string hint =
        "the adapter belongs to another base model, or its config to another "
        "adapter";
    if (!missing_.empty())
      add(std::to_string(missing_.size()) + " tensor(s) are missing from the adapter",
          some_names(missing_), {}, hint);
    if (!unexpected.empty())
      add(std::to_string(unexpected.size()) + " tensor(s) of the adapter belong to no part of it",
          some_names(unexpected), {}, hint);
    problems_.throw_if_any();
    return copies;
  }

  void require_finite(const std::string& name, const at::Tensor& value) {
    if (!at::isfinite(value).all().item<bool>())
      add("tensor '" + name + "' of the adapter has values that are not finite", {},
          "finite numbers", "the file is damaged, or the training that wrote it diverged");
  }
  void throw_if_any() const { problems_.throw_if_any(); }

 private:
  void add(std::string what, std::string found, std::string expected, std::string hint) {
    problems_.add({ErrorCode::kBadInput, std::move(what), std::move(found), std::move(expected),
                   path_, std::move(hint)});
  }

  const SafetensorsFile& file_;
  std::string path_;
  std::vector<std::string> expected_;
  std::vector<std::string> missing_;
  ProblemList problems_;
};

}  // namespace

Value read_adapter_config(const std::string& folder) {
  const fs::path path = fs::path(folder) / "adapter_config.json";
  if (!fs::exists(path)) {
    throw_bad_input("there is no adapter in '" + folder + "'", {},
                    "a folder with adapter_config.json and adapter_model.safetensors", folder);
  }
  Value config = read_json_file(path.string(), {.allow_duplicate_keys = true});
  if (!config.is_table())
    throw_bad_input("adapter_config.json is no JSON object", {}, "{...}", path.string());
  return config;
}

std::map<std::string, at::Tensor> read_adapter_values(
    const std::string& folder, const std::vector<std::shared_ptr<Parameter>>& parameters,
    const std::vector<DiskMapping>& mappings, const std::vector<at::ScalarType>& dtypes) {
  const std::string path = weights_path(folder);
  const SafetensorsFile file(path);
  FileCheck check(file, path);
  for (const DiskMapping& mapping : mappings) check.expect(mapping.parts.front());
  const std::vector<std::string> copies = check.finish();
  const CheckpointReader reader(path);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    parameters[i]->set_value(load_parameter(reader, parameters[i]->spec(), mappings[i], dtypes[i]));
    check.require_finite(parameters[i]->name(), parameters[i]->value().detach());
  }
  std::map<std::string, at::Tensor> base_weights;
  for (const std::string& name : copies) {
    base_weights.emplace(name, read_tensor(file, name));
    check.require_finite(name, base_weights.at(name));
  }
  check.throw_if_any();
  return base_weights;
}

}  // namespace espalier::peft

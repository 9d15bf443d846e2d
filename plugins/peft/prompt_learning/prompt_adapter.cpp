#include "prompt_adapter.h"

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/peft/adapter_files.h"

namespace espalier::prompts {
namespace {

constexpr const char* kTensorName = "prompt_embeddings";

[[noreturn]] void refuse_merge() {
  throw Error(Problem{ErrorCode::kUnsupported,
                      "what an adapter puts before a text has no place in a model's weights",
                      {},
                      {},
                      {},
                      "use the adapter beside its base model (--adapter)"});
}

}  // namespace

PromptAdapter::PromptAdapter(std::string peft_type, std::int64_t tokens, std::string dtype)
    : peft_type_(std::move(peft_type)), tokens_(tokens), dtype_(std::move(dtype)) {}

void PromptAdapter::open(const std::string& folder) {
  const Value config = peft::read_adapter_config(folder);
  const std::string path = folder + "/adapter_config.json";
  const peft::PeftReader read(config, path);
  read.require_kind(peft_type_.c_str());
  const double submodules = read.number("num_transformer_submodules", 1);
  read.require(submodules == 1, "num_transformer_submodules", "1: a model that is a decoder alone");
  tokens_ = static_cast<std::int64_t>(read.number("num_virtual_tokens", 0));
  read.require(tokens_ > 0, "num_virtual_tokens", "a number of 1 or more");
  check_config(read);
  folder_ = folder;
}

void PromptAdapter::attach(Model& model) {
  model_ = &model;
  shape_ = model.shape();
  const Dimension tokens{{{"prompt", tokens_, 1}}};
  parameters_ = {
      std::make_shared<Parameter>(ParameterSpec{kTensorName, {tokens, width(model)}, {}})};
  mappings_ = {identity_mapping(parameters_.front()->spec())};
  for (const auto& parameter : model.parts().parameters) parameter->set_trainable(false);
  model.parts().added_parameters.push_back(parameters_.front());
  extend(model);
  switch_model(model.parts(), enabled_);
}

void PromptAdapter::initialise(Model& model, std::uint64_t seed) {
  const at::ScalarType dtype = scalar_type_from_name(dtype_);
  if (folder_.empty()) {
    matrix()->set_value(new_values(seed).to(dtype));
  } else {
    const auto left_over = peft::read_adapter_values(folder_, parameters_, mappings_, {dtype});
    if (!left_over.empty())
      throw_bad_input("a tensor of the adapter belongs to no part of it", left_over.begin()->first,
                      kTensorName, folder_);
  }
  install(model);
}

void PromptAdapter::set_enabled(bool enabled) {
  enabled_ = enabled;
  if (model_ != nullptr) switch_model(model_->parts(), enabled);
}

void PromptAdapter::save(const std::string& folder, const std::string& base_model,
                         const WholeValue& value) const {
  Table table;
  table.set("auto_mapping", Value());
  table.set("base_model_name_or_path", base_model);
  table.set("inference_mode", true);
  table.set("modules_to_save", Value());
  table.set("num_layers", shape_.num_layers);
  table.set("num_transformer_submodules", 1);
  table.set("num_virtual_tokens", tokens_);
  table.set("peft_type", peft_type_);
  table.set("revision", Value());
  table.set("task_type", "CAUSAL_LM");
  add_config(table);
  write_file_atomically(folder + "/adapter_config.json",
                        dump_json(Value(std::move(table)), 2) + "\n");
  write_tensors(folder + "/adapter_model.safetensors", {{kTensorName, value(*matrix())}},
                {{"format", "pt"}});
}

void PromptAdapter::merge(Model&) { refuse_merge(); }

void PromptAdapter::unmerge(Model&) { refuse_merge(); }

}  // namespace espalier::prompts

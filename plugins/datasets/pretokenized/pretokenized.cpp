// Token ids and labels straight from a safetensors file, in file order.
#include <ATen/core/Tensor.h>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct PretokenizedConfig {
  std::string path;

  static ConfigSchema<PretokenizedConfig> schema() {
    return ConfigSchema<PretokenizedConfig>()
        .field("path", &PretokenizedConfig::path,
               "safetensors file with input_ids and labels, [..., seq], and optionally "
               "attention_mask, position_ids and "
               "cu_seqlens (boundaries inside each row)")
        .required();
  }
};

class Pretokenized final : public Dataset {
 public:
  using Config = PretokenizedConfig;

  explicit Pretokenized(PretokenizedConfig config) : config_(std::move(config)) {}

  void open(const DatasetContext&) override {
    const SafetensorsFile file(config_.path);
    input_ids_ = rows(file, "input_ids", true);
    labels_ = rows(file, "labels", true);
    attention_mask_ = rows(file, "attention_mask", false);
    position_ids_ = rows(file, "position_ids", false);
    cu_seqlens_ = rows(file, "cu_seqlens", false);
    for (const auto& [name, tensor] :
         {std::pair{"labels", &labels_}, std::pair{"attention_mask", &attention_mask_},
          std::pair{"position_ids", &position_ids_}}) {
      if (tensor->defined() && tensor->sizes() != input_ids_.sizes()) {
        throw_bad_input(std::string("'") + name + "' has another shape than 'input_ids'",
                        c10::str(tensor->sizes()), c10::str(input_ids_.sizes()), config_.path);
      }
    }
    if (cu_seqlens_.defined() && cu_seqlens_.size(0) != input_ids_.size(0)) {
      throw_bad_input("'cu_seqlens' has another number of rows than 'input_ids'",
                      std::to_string(cu_seqlens_.size(0)), std::to_string(input_ids_.size(0)),
                      config_.path);
    }
  }

  std::int64_t size() const override { return input_ids_.size(0); }
  bool keeps_order() const override { return true; }

  Sample get(std::int64_t index) const override {
    Sample sample;
    sample.input_ids = row(input_ids_, index);
    sample.labels = row(labels_, index);
    sample.attention_mask = row(attention_mask_, index);
    sample.position_ids = row(position_ids_, index);
    for (const std::int64_t boundary : row(cu_seqlens_, index)) {
      if (boundary < static_cast<std::int64_t>(sample.input_ids.size()))
        sample.document_starts.push_back(boundary);
    }
    return sample;
  }

 private:
  /// [..., seq] as [rows, seq] int64; undefined when absent and not required.
  at::Tensor rows(const SafetensorsFile& file, const char* name, bool required) const {
    if (file.find(name) == nullptr) {
      if (required)
        throw_bad_input(std::string("the file has no '") + name + "'", {}, "a tensor [..., seq]",
                        config_.path);
      return {};
    }
    const at::Tensor tensor = read_tensor(file, name);
    if (!at::isIntegralType(tensor.scalar_type(), true) || tensor.dim() < 2) {
      throw_bad_input(std::string("'") + name + "' has the wrong type or shape",
                      scalar_type_name(tensor.scalar_type()) + " " + c10::str(tensor.sizes()),
                      "int64 [..., seq]", config_.path);
    }
    return tensor.to(at::kLong).flatten(0, -2);
  }

  static std::vector<std::int64_t> row(const at::Tensor& tensor, std::int64_t index) {
    if (!tensor.defined()) return {};
    const std::int64_t* begin = tensor.const_data_ptr<std::int64_t>() + index * tensor.size(1);
    return {begin, begin + tensor.size(1)};
  }

  PretokenizedConfig config_;
  at::Tensor input_ids_;
  at::Tensor labels_;
  at::Tensor attention_mask_;
  at::Tensor position_ids_;
  at::Tensor cu_seqlens_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, Pretokenized>("pretokenized",
                                  "token ids and labels from a safetensors file, in file order")
      .property("recognises", parse_json(R"([{"endings": [".safetensors"]}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.pretokenized", "0.1.0", espalier::register_components)

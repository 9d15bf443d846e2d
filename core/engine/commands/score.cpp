#include "engine/run/score.h"

#include <cstdio>

#include "engine/commands/engine_command.h"
#include "engine/run/model_loader.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

/// The tensors that a batch is made of, with their types checked; the others in the file are left alone.
std::map<std::string, at::Tensor> read_batch(const std::string& path) {
  const SafetensorsFile file(path);
  std::map<std::string, at::Tensor> batch;
  for (const char* name : {"input_ids", "attention_mask", "position_ids", "cu_seqlens", "labels"}) {
    if (file.find(name) == nullptr) continue;
    const at::Tensor tensor = read_tensor(file, name);
    if (!at::isIntegralType(tensor.scalar_type(), /*includeBool=*/true)) {
      throw_bad_input(std::string("'") + name + "' has the wrong type", scalar_type_name(tensor.scalar_type()), "int64",
                      path);
    }
    batch.emplace(name, tensor.to(at::kLong));
  }
  if (!batch.contains("input_ids")) throw_bad_input("the input has no 'input_ids'", {}, "a tensor [batch, seq] of int64", path);
  return batch;
}

}  // namespace

int run_score(const EngineCall& call) {
  ModelLoadOptions options;
  // The numbers of the weights as they are: float32 arithmetic unless another dtype is asked for.
  options.dtype = call.text("dtype").empty() ? "auto" : call.text("dtype");
  options.compute_dtype = call.text("dtype").empty() ? "float32" : call.text("dtype");
  const std::map<std::string, at::Tensor> batch = read_batch(call.text("input"));
  const LoadedModel loaded = load_model(*call.create<ModelProvider>("model"), call.text("model"), options);
  const ScoreOptions what{call.flag("logits"), call.flag("gradients"), call.flag("shifted-labels")};
  const std::map<std::string, at::Tensor> results = score(*loaded.model, batch, what);
  write_tensors(call.text("output"), results);
  if (results.contains("loss")) {
    std::printf("loss %.6f over %ld label tokens\n", results.at("loss").item<double>(),
                static_cast<long>(results.at("num_label_tokens").item<std::int64_t>()));
  }
  return 0;
}

}  // namespace espalier

#include "formats/gguf_import.h"

#include <algorithm>
#include <functional>

#include "espalier/base/file.h"
#include "espalier/base/gguf.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "formats/gguf_decoder.h"
#include "formats/gguf_tokenizer.h"
#include "formats/gguf_weights.h"
#include "formats/output_folder.h"

namespace espalier::formats {
namespace {

/// Names that an import writes, or that belong to the same kind of folder.
bool is_model_file(const std::string& name) {
  static constexpr std::string_view kNames[] = {
      "config.json",           "generation_config.json",      "tokenizer.json",
      "tokenizer_config.json", "special_tokens_map.json",     "chat_template.jinja",
      "model.safetensors",     "model.safetensors.index.json"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}

void check_options(const GgufImportOptions& options) {
  if (!options.dtype || *options.dtype == DType::kF32 || *options.dtype == DType::kBF16 ||
      *options.dtype == DType::kF16)
    return;
  throw_bad_input("weights can't be imported as this type",
                  std::string(dtype_config_name(*options.dtype)), "float32, bfloat16 or float16",
                  {});
}

}  // namespace

GgufImportReport import_gguf(const std::string& file, const std::string& folder,
                             const GgufImportOptions& options) {
  check_options(options);
  const GgufFile source(file);
  DecoderImport model = map_gguf_decoder(source);
  TokenizerImport tokenizer = map_gguf_tokenizer(source);
  GgufImportReport report;
  report.architecture = model.config.find("architectures")->as_array().front().as_string();
  report.has_tokenizer = !tokenizer.files.empty();
  report.warnings = std::move(model.warnings);
  std::move(tokenizer.warnings.begin(), tokenizer.warnings.end(),
            std::back_inserter(report.warnings));
  for (const TensorMapping& tensor : model.tensors)
    report.parameters += tensor.source->element_count();

  OutputFolder output(
      folder, options.overwrite ? is_model_file : std::function<bool(const std::string&)>());
  report.dtype = options.dtype ? *options.dtype : exact_dtype(source, model.tensors);
  model.config.set("torch_dtype", dtype_config_name(report.dtype));
  report.files =
      write_safetensors_sharded(output.path(), tensor_sources(source, model.tensors, report.dtype),
                                {{"format", "pt"}}, {.max_shard_bytes = options.max_shard_bytes});
  std::map<std::string, std::string> texts = std::move(tokenizer.files);
  texts["config.json"] = dump_json(model.config, 2) + "\n";
  texts["generation_config.json"] = dump_json(model.generation_config, 2) + "\n";
  for (const auto& [name, content] : texts) {
    write_file_atomically(output / name, content);
    report.files.push_back(name);
  }
  output.publish();
  std::sort(report.files.begin(), report.files.end());
  return report;
}

}  // namespace espalier::formats

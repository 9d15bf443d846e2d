#include "formats/gguf_export.h"

#include <algorithm>
#include <filesystem>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/json.h"
#include "formats/gguf_families.h"
#include "formats/gguf_tensor_plan.h"
#include "formats/gguf_vocabulary.h"
#include "formats/gguf_writer.h"

namespace espalier::formats {
namespace {

namespace fs = std::filesystem;

/// `general.file_type`.
int file_type(GgmlType type) {
  switch (type) {
    case GgmlType::kF16: return 1;
    case GgmlType::kQ8Type0: return 7;
    case GgmlType::kBF16: return 32;
    default: return 0;
  }
}

std::string architecture_of(const Value& config, const std::string& where) {
  const Value* names = config.find("architectures");
  if (names == nullptr || !names->is_array() || names->as_array().empty() ||
      !names->as_array().front().is_string()) {
    throw_bad_input("the config names no architecture", {},
                    "\"architectures\": [\"LlamaForCausalLM\"] or another one", where);
  }
  return names->as_array().front().as_string();
}

void add_general(GgufMetadata& metadata, const GgufFamily& family, const std::string& folder,
                 const GgufExportOptions& options) {
  const std::string name = options.name.empty()
                               ? fs::absolute(folder).lexically_normal().filename().string()
                               : options.name;
  metadata.add_string("general.architecture", family.name);
  metadata.add_string("general.type", "model");
  metadata.add_string("general.name", name);
  metadata.add_uint32("general.file_type", file_type(options.type));
  if (options.type == GgmlType::kQ8Type0) metadata.add_uint32("general.quantization_version", 2);
}

}  // namespace

GgufExportReport export_gguf(const std::string& folder, const std::string& file,
                             const GgufExportOptions& options) {
  const std::string where = (fs::path(folder) / "config.json").string();
  const Value config = read_json_file(where, {.allow_nonfinite = true});
  const GgufFamily& family = find_gguf_family(architecture_of(config, where), where);
  const CheckpointReader checkpoint(folder);
  checkpoint.verify();

  ModelMetadata metadata(config.as_table(), std::string(family.name), where);
  add_general(metadata.out(), family, folder, options);
  family.describe(metadata);
  ProblemList problems = metadata.problems();
  const std::vector<GgufTensorSource> tensors =
      plan_gguf_tensors(checkpoint, family, metadata, options.type, problems);
  problems.throw_if_any();

  GgufExportReport report;
  report.architecture = family.name;
  report.tensors = tensors.size();
  report.warnings = metadata.warnings();
  std::int64_t rows = 0;
  for (const GgufTensorSource& tensor : tensors) {
    std::int64_t elements = 1;
    for (const std::int64_t size : tensor.shape) elements *= size;
    report.parameters += elements;
    if (tensor.name == "token_embd.weight") rows = tensor.shape.front();
  }
  metadata.add_size("vocab_size", rows);
  if (options.with_tokenizer) {
    add_gguf_vocabulary(folder, rows, metadata.out(), report.warnings);
  } else {
    metadata.out().add_string("tokenizer.ggml.model", "no_vocab");
  }
  write_gguf(file, metadata.out(), tensors);
  return report;
}

}  // namespace espalier::formats

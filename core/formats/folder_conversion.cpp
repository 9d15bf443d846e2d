#include "formats/folder_conversion.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <tuple>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "espalier/base/torch_file.h"
#include "formats/float_encoding.h"
#include "formats/output_folder.h"

namespace espalier::formats {
namespace {

namespace fs = std::filesystem;

/// Elements that are converted at once.
constexpr std::uint64_t kChunkElements = std::uint64_t{1} << 20;

/// Weights in the forms that a reader takes, all of which the new ones replace.
bool is_weights_file(const std::string& name) {
  const bool known = name.starts_with("model") || name.starts_with("pytorch_model");
  return known && (name.ends_with(".safetensors") || name.ends_with(".bin") ||
                   name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json"));
}

/// Names whose tensor is another one's too: torch.save keeps ties, safetensors has none. Of the
/// names of one tensor the last in order stays, which in every published layout is the embedding.
std::vector<std::string> tied_names(const CheckpointReader& checkpoint) {
  using Storage = std::tuple<std::string, std::uint64_t, std::vector<std::int64_t>>;
  std::map<Storage, std::string> owners;
  std::vector<std::string> tied;
  for (const std::string& name : checkpoint.names()) {
    const auto* file = dynamic_cast<const TorchFile*>(&checkpoint.file_of(name));
    if (file == nullptr || file->at(name).element_count() == 0) continue;
    std::string& owner = owners[{file->path(), file->layout(name).begin, file->at(name).shape}];
    if (!owner.empty()) tied.push_back(owner);
    owner = name;
  }
  return tied;
}

void write_converted(const TensorFile& file, const TensorInfo& tensor, DType dtype,
                     const TensorSink& sink) {
  const auto element = static_cast<std::uint64_t>(dtype_bits(tensor.dtype)) / 8;
  const auto elements = static_cast<std::uint64_t>(tensor.element_count());
  std::vector<std::byte> bytes;
  std::vector<float> values;
  for (std::uint64_t first = 0; first < elements; first += kChunkElements) {
    const std::uint64_t count = std::min(kChunkElements, elements - first);
    bytes.resize(count * element);
    values.resize(count);
    file.read_bytes(tensor.name, first * element, bytes);
    decode_floats(tensor.dtype, bytes, values);
    encode_floats(values, dtype, tensor.name, sink);
  }
}

void write_as_it_is(const TensorFile& file, const TensorInfo& tensor, const TensorSink& sink) {
  std::vector<std::byte> bytes;
  const std::uint64_t size = tensor.size_bytes();
  for (std::uint64_t first = 0; first < size; first += 4 * kChunkElements) {
    bytes.resize(std::min(4 * kChunkElements, size - first));
    file.read_bytes(tensor.name, first, bytes);
    sink(bytes);
  }
}

std::vector<TensorSource> sources_of(const CheckpointReader& checkpoint,
                                     const std::vector<std::string>& left_out,
                                     std::optional<DType> dtype) {
  std::vector<TensorSource> sources;
  for (const std::string& name : checkpoint.names()) {
    if (std::find(left_out.begin(), left_out.end(), name) != left_out.end()) continue;
    const TensorFile& file = checkpoint.file_of(name);
    const TensorInfo& tensor = file.at(name);
    const bool changes = dtype && is_float(tensor.dtype) && tensor.dtype != *dtype;
    sources.push_back({.name = name,
                       .dtype = changes ? *dtype : tensor.dtype,
                       .shape = tensor.shape,
                       .write = [&file, &tensor, changes, dtype](const TensorSink& sink) {
                         if (changes)
                           write_converted(file, tensor, *dtype, sink);
                         else
                           write_as_it_is(file, tensor, sink);
                       }});
  }
  return sources;
}

/// Says the new type wherever a config says one.
void set_dtype(Value& config, DType dtype, bool outermost) {
  bool said = false;
  for (auto& [key, value] : config.as_table()) {
    if (key == "torch_dtype" || key == "dtype") {
      value = Value(dtype_config_name(dtype));
      said = true;
    } else if (value.is_table() && key.ends_with("_config")) {
      set_dtype(value, dtype, false);
    }
  }
  if (outermost && !said) config.as_table().set("torch_dtype", dtype_config_name(dtype));
}

bool ties_allowed(const Value& config) {
  const Value* tied = config.find("tie_word_embeddings");
  return tied == nullptr || !(*tied == Value(false));
}

/// Everything but weights and config.json.
void copy_others(const fs::path& source, const OutputFolder& output,
                 const std::vector<std::string>& weights) {
  for (const fs::directory_entry& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    if (std::find(weights.begin(), weights.end(), entry.path().string()) != weights.end()) continue;
    if (name == "config.json" || (is_weights_file(name) && !entry.is_directory())) continue;
    std::error_code error;
    fs::copy(entry.path(), output / name, fs::copy_options::recursive, error);
    if (error) throw_io("copy", entry.path().string(), error.value());
  }
}

void check_places(const fs::path& source, const fs::path& target) {
  const fs::path inside = fs::weakly_canonical(source);
  const fs::path outside = fs::weakly_canonical(target);
  if (std::mismatch(inside.begin(), inside.end(), outside.begin(), outside.end()).first ==
      inside.end()) {
    throw_bad_input("the output folder is the model's own, or lies in it", target.string(),
                    "a folder elsewhere", "--output");
  }
}

}  // namespace

FolderConversionReport convert_folder(const std::string& source, const std::string& target,
                                      const FolderConversionOptions& options) {
  check_places(source, target);
  const std::string config_path = (fs::path(source) / "config.json").string();
  Value config = read_json_file(config_path, {.allow_nonfinite = true});
  if (options.dtype && config.find("quantization_config") != nullptr) {
    throw Error(Problem{.code = ErrorCode::kUnsupported,
                        .what = "the weights are quantised, so they have no other type",
                        .found = "quantization_config",
                        .expected = "a model of float32, bfloat16 or float16 weights",
                        .where = config_path,
                        .hint = "convert without --dtype, which changes the shards alone"});
  }
  const ForeignWeights& foreign = options.foreign;
  const CheckpointReader checkpoint =
      foreign.reader == nullptr ? CheckpointReader(source)
                                : CheckpointReader(source, foreign.files, *foreign.reader);
  checkpoint.verify();
  FolderConversionReport report;
  if (ties_allowed(config)) report.tied = tied_names(checkpoint);
  const std::vector<TensorSource> sources = sources_of(checkpoint, report.tied, options.dtype);
  report.tensors = sources.size();
  for (const TensorSource& tensor : sources)
    report.bytes += tensor_size_bytes(tensor.dtype, tensor.shape, tensor.name);

  const auto anything = [](const std::string&) { return true; };
  OutputFolder output(target,
                      options.overwrite ? anything : std::function<bool(const std::string&)>());
  if (options.dtype) set_dtype(config, *options.dtype, true);
  if (foreign.writer != nullptr)
    foreign.writer->write(output / foreign.file_name, sources, {{"format", "pt"}});
  else
    write_safetensors_sharded(output.path(), sources, {{"format", "pt"}},
                              {.max_shard_bytes = options.max_shard_bytes});
  if (options.dtype)
    write_file_atomically(output / "config.json", dump_json(config, 2) + "\n");
  else
    fs::copy_file(config_path, output / "config.json");
  copy_others(source, output, foreign.files);
  output.publish();
  for (const fs::directory_entry& entry : fs::directory_iterator(target))
    report.files.push_back(entry.path().filename().string());
  std::sort(report.files.begin(), report.files.end());
  return report;
}

}  // namespace espalier::formats

#include "engine/checkpoint/export.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::array kCompanions = {"generation_config.json",
                                    "tokenizer.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "vocab.txt",
                                    "tokenizer.model",
                                    "spiece.model",
                                    "sentencepiece.bpe.model",
                                    "tekken.json",
                                    "chat_template.jinja",
                                    "chat_template.json"};

/// config.json with the dtype that the weights really have.
Value exported_config(const LoadedModel& loaded) {
  Value config = loaded.config;
  Table& table = config.as_table();
  table.set(table.contains("dtype") ? "dtype" : "torch_dtype",
            scalar_type_name(loaded.storage_dtype));
  return config;
}

/// A tensor of the disk whose value is made when it is written.
TensorSource gathered_source(const DiskMapping& mapping, const DiskTensor& part, DType dtype,
                             const std::function<at::Tensor()>& value) {
  TensorSource source{part.name, dtype, disk_shape(part), {}, {}};
  source.write = [&mapping, name = part.name, value](const TensorSink& sink) {
    for (const auto& [other, tensor] : to_disk_layout(mapping, value())) {
      if (other != name) continue;
      const at::Tensor bytes = tensor.cpu().contiguous();
      sink(std::span(static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()));
    }
  };
  return source;
}

void write_weights(const LoadedModel& loaded, const std::string& folder,
                   const std::function<at::Tensor(std::size_t)>& value) {
  const ModelParts& parts = loaded.model->parts();
  std::vector<TensorSource> sources;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    const Parameter& parameter = *parts.parameters[i];
    if (value) {
      for (const DiskTensor& part : parts.mappings[i].parts)
        sources.push_back(gathered_source(parts.mappings[i], part,
                                          dtype_of(parameter.value().scalar_type()),
                                          [&value, i] { return value(i); }));
      continue;
    }
    for (const auto& [name, tensor] :
         to_disk_layout(parts.mappings[i], parameter.value().detach())) {
      sources.push_back(tensor_source(name, tensor));
    }
  }
  write_safetensors_sharded(folder, sources, {{"format", "pt"}});
}

void copy_companions(const LoadedModel& loaded, const fs::path& folder,
                     const std::string& without = {}) {
  for (const char* name : kCompanions) {
    const fs::path source = fs::path(loaded.folder) / name;
    if (name != without && fs::exists(source))
      write_file_atomically((folder / name).string(), read_file(source.string()));
  }
  for (const std::string& path : loaded.tokenizer_files) {
    const std::string copy = (folder / fs::path(path).filename()).string();
    if (!fs::exists(copy)) write_file_atomically(copy, read_file(path));
  }
}

/// Lets `write` fill a folder beside the place of `folder` and moves it there when it is whole.
void write_folder(const std::string& folder, const std::function<void(const fs::path&)>& write) {
  const fs::path target = fs::absolute(folder).lexically_normal();
  const fs::path writing = target.parent_path() / ("." + target.filename().string() + ".writing");
  const fs::path old = target.parent_path() / ("." + target.filename().string() + ".old");
  std::error_code failure;
  fs::remove_all(writing, failure);
  fs::create_directories(writing, failure);
  if (failure) throw_io("create", writing.string(), failure.value());
  try {
    write(writing);
    if (fs::exists(target)) {
      fs::remove_all(old, failure);
      if (std::rename(target.c_str(), old.c_str()) != 0) throw_io("rename", target.string(), errno);
    }
    if (std::rename(writing.c_str(), target.c_str()) != 0)
      throw_io("rename", writing.string(), errno);
    sync_folder(target.parent_path().string());
    fs::remove_all(old, failure);
  } catch (...) {
    fs::remove_all(writing, failure);  // the first failure is the one to report
    throw;
  }
}

}  // namespace

void export_model(const LoadedModel& loaded, const std::string& folder,
                  const std::function<at::Tensor(std::size_t)>& value) {
  write_folder(folder, [&](const fs::path& writing) {
    write_weights(loaded, writing.string(), value);
    write_file_atomically((writing / "config.json").string(),
                          dump_json(exported_config(loaded), 2) + "\n");
    copy_companions(loaded, writing);
  });
}

void export_adapter(const LoadedModel& loaded, const std::string& folder,
                    const std::string& base_model) {
  ESPALIER_ASSERT(loaded.adapter != nullptr, "there is no adapter to export");
  write_folder(folder, [&](const fs::path& writing) {
    loaded.adapter->save(writing.string(), base_model);
    copy_companions(loaded, writing, "generation_config.json");
  });
}

}  // namespace espalier

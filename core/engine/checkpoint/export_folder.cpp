#include "engine/checkpoint/export_folder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
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

}  // namespace

ExportFolder::ExportFolder(const std::string& folder)
    : target_(fs::absolute(folder).lexically_normal()) {
  const std::string name = "." + target_.filename().string();
  writing_ = target_.parent_path() / (name + ".writing");
  old_ = target_.parent_path() / (name + ".old");
}

void ExportFolder::begin() const {
  std::error_code failure;
  fs::remove_all(writing_, failure);
  fs::create_directories(writing_, failure);
  if (failure) throw_io("create", writing_.string(), failure.value());
}

void ExportFolder::commit() const {
  std::error_code failure;
  if (fs::exists(target_)) {
    fs::remove_all(old_, failure);
    if (std::rename(target_.c_str(), old_.c_str()) != 0)
      throw_io("rename", target_.string(), errno);
  }
  if (std::rename(writing_.c_str(), target_.c_str()) != 0)
    throw_io("rename", writing_.string(), errno);
  sync_folder(target_.parent_path().string());
  fs::remove_all(old_, failure);
}

void ExportFolder::give_up() const noexcept {
  std::error_code ignored;  // the first failure is the one to report
  fs::remove_all(writing_, ignored);
}

TensorSource disk_tensor(const DiskTensor& part, at::ScalarType dtype) {
  if (!part.disk_offset.empty()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "tensor '" + part.name + "' is shared by several parameters",
                        {},
                        {},
                        "the export of the model",
                        {}});
  }
  return {part.name, dtype_of(dtype), disk_shape(part), {}, {}};
}

at::Tensor to_disk_order(const DiskTensor& part, const at::Tensor& box) {
  std::vector<std::int64_t> order = part.dimensions;
  std::vector<std::int64_t> shape;
  for (const std::int64_t dimension : part.dimensions) shape.push_back(box.size(dimension));
  for (std::int64_t d = 0; d < box.dim(); ++d) {  // of extent 1: to the end and away
    if (std::find(order.begin(), order.end(), d) == order.end()) order.push_back(d);
  }
  return box.permute(order).reshape(shape).cpu().contiguous();
}

void write_companions(const LoadedModel& loaded, const fs::path& folder) {
  Value config = loaded.config;
  Table& table = config.as_table();
  table.set(table.contains("dtype") ? "dtype" : "torch_dtype",
            scalar_type_name(loaded.storage_dtype));
  write_file_atomically((folder / "config.json").string(), dump_json(config, 2) + "\n");
  copy_companions(loaded, folder);
}

void copy_companions(const LoadedModel& loaded, const fs::path& folder,
                     const std::string& without) {
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

}  // namespace espalier

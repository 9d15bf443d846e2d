#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/tensor_file.h"

namespace espalier {

class CheckpointFormat;

/// The weights of a model: `path` is a folder with model.safetensors, or with
/// model.safetensors.index.json and its shards, or where there is neither with pytorch_model.bin or
/// its index and shards (see TorchFile); or one such file; or an index file. Shards are opened when
/// a tensor of theirs is first asked for; each is then checked against the index. All methods may
/// be called from several threads at once. What other formats know takes the second constructor.
class ESPALIER_API CheckpointReader {
 public:
  explicit CheckpointReader(const std::string& path);
  /// The tensors of all `files` (not empty), each opened by `format`, which is used in the
  /// constructor alone; `path` names the whole in messages. Throws Error(kBadInput) for a tensor
  /// that is in two files.
  CheckpointReader(const std::string& path, const std::vector<std::string>& files,
                   const CheckpointFormat& format);
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;
  ~CheckpointReader();

  /// True where `path` has weights that the constructor would open.
  static bool has_weights(const std::string& path);

  /// All tensors, sorted by name.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const;
  /// Error(kBadInput) with the nearest names when there is no such tensor.
  const TensorInfo& at(std::string_view name) const { return file_of(name).at(name); }
  /// The opened file that holds the tensor; for data, read_bytes and read_slice.
  const TensorFile& file_of(std::string_view name) const;
  std::span<const std::byte> data(std::string_view name) const { return file_of(name).data(name); }

  /// Opens and checks every shard; reports everything that is wrong at once.
  void verify() const;
  /// Over all files, see TensorFile.
  std::uint64_t bytes_requested() const;
  /// The file or index that was opened.
  const std::string& path() const { return path_; }

 private:
  struct Shard {
    std::string path;
    std::vector<std::string> names;
    /// Not a once_flag: a shard that can't be opened throws, and ThreadSanitizer hangs on that.
    std::mutex opening;
    std::unique_ptr<TensorFile> file;
    /// `file`, for readers that did not open it.
    std::atomic<const TensorFile*> visible{nullptr};
  };

  void read_index();
  Shard& shard(const std::string& file);
  const TensorFile& open(Shard& shard) const;
  void check_against_index(const Shard& shard, const TensorFile& file) const;

  std::string path_;
  bool indexed_ = false;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::map<std::string, Shard*, std::less<>> shard_of_;
  std::vector<std::string> names_;
};

}  // namespace espalier

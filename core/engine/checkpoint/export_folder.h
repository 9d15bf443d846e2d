#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

#include "engine/run/model_loader.h"
#include "espalier/base/safetensors_writer.h"

namespace espalier {

/// A folder that appears at its place whole or not at all; what was there is replaced.
class ExportFolder {
 public:
  explicit ExportFolder(const std::string& folder);

  /// Where it is written, beside its place.
  const std::filesystem::path& writing() const { return writing_; }
  /// Throws Error(kIo).
  void begin() const;
  void commit() const;
  void give_up() const noexcept;

 private:
  std::filesystem::path target_;
  std::filesystem::path writing_;
  std::filesystem::path old_;
};

/// A tensor of the disk without its data.
TensorSource disk_tensor(const DiskTensor& part, at::ScalarType dtype);
/// What a part holds of a parameter, [extent of the box], as it lies on disk.
at::Tensor to_disk_order(const DiskTensor& part, const at::Tensor& box);
/// config.json with the dtype that the weights really have, generation config, tokenizer and chat
/// template of the folder that the model was loaded from.
void write_companions(const LoadedModel& loaded, const std::filesystem::path& folder);
/// Without config.json and the file `without`.
void copy_companions(const LoadedModel& loaded, const std::filesystem::path& folder,
                     const std::string& without = {});

}  // namespace espalier

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/dtype.h"
#include "espalier/base/safetensors.h"

namespace espalier {

/// Takes the next bytes of a tensor.
using TensorSink = std::function<void(std::span<const std::byte>)>;

/// A tensor to be written: its bytes are `data`, or what `write` hands to the sink piece by piece
/// when it is set. Both have to give exactly the bytes that dtype and shape need.
struct TensorSource {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
  std::function<void(const TensorSink&)> write;
};

/// Writes one file in the layout of the reference serializer: tensors by dtype (widest first), then
/// by name; the header padded so that data begins at a multiple of 8. The file appears at `path`
/// whole or not at all. Transformers expects metadata {"format": "pt"}. Throws Error(kBadInput) for
/// repeated names and the like, Error(kIo), and Error(kInternal) for a source that gives too few or
/// too many bytes.
ESPALIER_API void write_safetensors(const std::string& path,
                                    const std::vector<TensorSource>& tensors,
                                    const TensorMetadata& metadata = {});

struct ShardingOptions {
  /// A shard is closed before it would pass this; a larger tensor gets a shard of its own.
  std::uint64_t max_shard_bytes = 5'000'000'000;
  /// Files are named `<stem>.safetensors`, or `<stem>-00001-of-0000N.safetensors` with
  /// `<stem>.safetensors.index.json`.
  std::string stem = "model";
};

/// Writes tensors, in the order given, into one file or shards with an index, as Transformers lays
/// them out; older weights of the same stem in `folder` that do not belong to the new set are
/// removed at the end. The index is written after the last shard. Returns the names of the files
/// written.
ESPALIER_API std::vector<std::string> write_safetensors_sharded(
    const std::string& folder, const std::vector<TensorSource>& tensors,
    const TensorMetadata& metadata = {}, const ShardingOptions& options = {});

/// A file of weights before its data is there.
struct PlannedFile {
  std::string name;
  std::string head;                               ///< the bytes before the data
  std::map<std::string, std::uint64_t> position;  ///< of the data of each tensor, in the file
  std::uint64_t bytes = 0;                        ///< of the whole file
};

/// The files that write_safetensors_sharded would write, for writers that put each part of a tensor
/// in its place themselves. The sources' data is not looked at. `index`: the content of the index;
/// empty where there is one file.
struct PlannedWeights {
  std::vector<PlannedFile> files;
  std::string index_name;
  std::string index;
};
ESPALIER_API PlannedWeights plan_safetensors_sharded(const std::vector<TensorSource>& tensors,
                                                     const TensorMetadata& metadata = {},
                                                     const ShardingOptions& options = {});

}  // namespace espalier

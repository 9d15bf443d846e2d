// Consolidation to a Hugging Face folder. Rank 0 makes the files with their headers; each rank then
// writes the boxes that it holds to where they lie in them, so that a rank needs memory for one
// piece of a parameter and the disk sees all ranks at once.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/checkpoint/export.h"
#include "engine/checkpoint/export_folder.h"
#include "engine/parallel/shard_pieces.h"
#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Sizes = std::vector<std::int64_t>;

constexpr const char* kWhat = "exporting the model";

/// A file that several processes write parts of.
class SharedFile {
 public:
  SharedFile(std::string path, int flags) : path_(std::move(path)) {
    constexpr mode_t kMode = 0666;
    descriptor_ = ::open(path_.c_str(), flags | O_CLOEXEC, kMode);
    if (descriptor_ < 0) throw_io("open", path_, errno);
  }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  ~SharedFile() { ::close(descriptor_); }

  /// Takes the room on the disk at once, so that its lack is found before the data is written.
  void reserve(std::uint64_t bytes) const {
    const int failure = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes));
    if (failure != 0) throw_io("write", path_, failure);
  }
  void write(std::uint64_t position, std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t count =
          ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(position));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw_io("write", path_, errno);
      position += static_cast<std::uint64_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }
  void sync() const {
    if (::fsync(descriptor_) != 0) throw_io("write", path_, errno);
  }

 private:
  std::string path_;
  int descriptor_ = -1;
};

/// Writes `part`, contiguous, to where it lies in a tensor of `shape` that begins at `position`: in
/// the longest runs there are.
void write_box(const SharedFile& file, std::uint64_t position, const Sizes& shape,
               const Sizes& offset, const at::Tensor& part) {
  const auto dimensions = static_cast<std::int64_t>(shape.size());
  std::int64_t first = dimensions;  // a run goes over this dimension and those behind it
  std::int64_t run = 1;
  while (first > 0) {
    --first;
    run *= part.size(first);
    if (part.size(first) != shape[static_cast<std::size_t>(first)]) break;
  }
  const std::size_t element = part.element_size();
  const auto* bytes = static_cast<const std::byte*>(part.const_data_ptr());
  Sizes index(static_cast<std::size_t>(first), 0);
  for (std::int64_t done = 0; done < part.numel(); done += run) {
    std::int64_t place = 0;  // of the run's first element in the tensor
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t inner = d < index.size() ? index[d] : 0;
      place = place * shape[d] + offset[d] + inner;
    }
    file.write(position + static_cast<std::uint64_t>(place) * element,
               {bytes + static_cast<std::size_t>(done) * element,
                static_cast<std::size_t>(run) * element});
    for (std::size_t d = index.size(); d-- > 0;) {
      if (++index[d] < part.size(static_cast<std::int64_t>(d))) break;
      index[d] = 0;
    }
  }
}

class RankExport {
 public:
  RankExport(const LoadedModel& loaded, const ParallelStrategy& strategy)
      : loaded_(loaded), strategy_(strategy) {
    const ModelParts& parts = loaded.model->parts();
    std::vector<TensorSource> sources;
    for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
      for (const DiskTensor& part : parts.mappings[i].parts)
        sources.push_back(disk_tensor(part, parts.parameters[i]->value().scalar_type()));
    }
    plan_ = plan_safetensors_sharded(sources, {{"format", "pt"}});
    for (const PlannedFile& file : plan_.files) {
      for (const auto& [name, position] : file.position) files_.emplace(name, &file);
    }
  }

  void make_files(const fs::path& folder) const {
    for (const PlannedFile& planned : plan_.files) {
      const SharedFile file((folder / planned.name).string(), O_CREAT | O_EXCL | O_WRONLY);
      file.reserve(planned.bytes);
      file.write(0, std::as_bytes(std::span(planned.head)));
      file.sync();
    }
    if (!plan_.index.empty())
      write_file_atomically((folder / plan_.index_name).string(), plan_.index);
  }

  void write_own(const fs::path& folder) const {
    std::map<const PlannedFile*, std::unique_ptr<SharedFile>> open;
    const ModelParts& parts = loaded_.model->parts();
    for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
      const ParameterLayout layout = strategy_.layout(*parts.parameters[i]);
      if (!layout.writes) continue;
      for (const DiskTensor& part : parts.mappings[i].parts) {
        const PlannedFile* planned = files_.at(part.name);
        std::unique_ptr<SharedFile>& file = open[planned];
        if (file == nullptr)
          file = std::make_unique<SharedFile>((folder / planned->name).string(), O_WRONLY);
        for (const ShardPiece& piece : layout.pieces)
          write_part(*file, planned->position.at(part.name), part, piece,
                     parts.parameters[i]->value().detach());
      }
    }
    for (const auto& [planned, file] : open) file->sync();
  }

 private:
  static void write_part(const SharedFile& file, std::uint64_t position, const DiskTensor& part,
                         const ShardPiece& piece, const at::Tensor& local) {
    Sizes offset;  // of what both have, in the part and in what the rank holds
    Sizes local_offset;
    Sizes extent;
    for (std::size_t d = 0; d < piece.offset.size(); ++d) {
      const std::int64_t begin = std::max(piece.offset[d], part.offset[d]);
      const std::int64_t end =
          std::min(piece.offset[d] + piece.extent[d], part.offset[d] + part.extent[d]);
      if (begin >= end) return;
      offset.push_back(begin - part.offset[d]);
      local_offset.push_back(begin - piece.offset[d] + piece.local_offset[d]);
      extent.push_back(end - begin);
    }
    Sizes shape;
    Sizes disk_offset;
    for (const std::int64_t dimension : part.dimensions) {
      shape.push_back(part.extent[static_cast<std::size_t>(dimension)]);
      disk_offset.push_back(offset[static_cast<std::size_t>(dimension)]);
    }
    write_box(file, position, shape, disk_offset,
              to_disk_order(part, box(local, local_offset, extent)));
  }

  const LoadedModel& loaded_;
  const ParallelStrategy& strategy_;
  PlannedWeights plan_;
  std::map<std::string, const PlannedFile*> files_;
};

}  // namespace

void export_from_ranks(const LoadedModel& loaded, const std::string& folder,
                       const RankAgreement& ranks, const ParallelStrategy& strategy) {
  const RankExport work(loaded, strategy);
  const ExportFolder target(folder);
  try {
    ranks.on_first(kWhat, [&] {
      target.begin();
      work.make_files(target.writing());
      write_companions(loaded, target.writing());
    });
    ranks.on_all(kWhat, [&] { work.write_own(target.writing()); });
    ranks.on_first(kWhat, [&] {
      sync_folder(target.writing().string());
      target.commit();
    });
  } catch (...) {
    if (ranks.is_first()) target.give_up();
    throw;
  }
}

}  // namespace espalier

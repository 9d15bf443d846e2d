#include "engine/checkpoint/export.h"

#include "engine/checkpoint/export_folder.h"
#include "engine/parallel/shard_pieces.h"
#include "espalier/base/error.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

void write_weights(const LoadedModel& loaded, const std::string& folder, const PartReader& read) {
  const ModelParts& parts = loaded.model->parts();
  std::vector<TensorSource> sources;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    for (const DiskTensor& part : parts.mappings[i].parts) {
      TensorSource& source =
          sources.emplace_back(disk_tensor(part, parts.parameters[i]->value().scalar_type()));
      // The value is made when its turn comes.
      source.write = [&parts, &part, &read, i](const TensorSink& sink) {
        const ShardPiece piece{part.offset, part.extent,
                               std::vector<std::int64_t>(part.offset.size(), 0)};
        const at::Tensor bytes = to_disk_order(
            part, read ? read(i, piece)
                       : box(parts.parameters[i]->value().detach(), part.offset, part.extent));
        sink(std::span(static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()));
      };
    }
  }
  write_safetensors_sharded(folder, sources, {{"format", "pt"}});
}

/// Lets `write` fill a folder beside the place of `folder` and moves it there when it is whole.
void write_folder(const std::string& folder, const std::function<void(const fs::path&)>& write) {
  const ExportFolder target(folder);
  target.begin();
  try {
    write(target.writing());
    target.commit();
  } catch (...) {
    target.give_up();
    throw;
  }
}

}  // namespace

void export_model(const LoadedModel& loaded, const std::string& folder, const PartReader& read) {
  write_folder(folder, [&](const fs::path& writing) {
    write_weights(loaded, writing.string(), read);
    write_companions(loaded, writing);
  });
}

void export_adapter(const LoadedModel& loaded, const std::string& folder,
                    const std::string& base_model, const WholeValue& value) {
  ESPALIER_ASSERT(loaded.adapter != nullptr, "there is no adapter to export");
  write_folder(folder, [&](const fs::path& writing) {
    loaded.adapter->save(writing.string(), base_model, value);
    copy_companions(loaded, writing, "generation_config.json");
  });
}

}  // namespace espalier

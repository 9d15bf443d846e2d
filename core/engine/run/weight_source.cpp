#include "engine/run/weight_source.h"

#include "engine/parallel/shard_pieces.h"
#include "engine/run/checkpoint_match.h"
#include "espalier/io/initial_value.h"
#include "espalier/io/parameter_io.h"

namespace espalier {

WeightSource::WeightSource(const ModelParts& parts,
                           std::shared_ptr<const CheckpointReader> checkpoint,
                           at::ScalarType storage, bool as_stored, std::uint64_t seed)
    : parts_(parts), checkpoint_(std::move(checkpoint)), seed_(seed) {
  const at::ScalarType prevailing =
      checkpoint_ != nullptr ? prevailing_dtype(parts, *checkpoint_) : storage;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    const DiskMapping& mapping = parts.mappings[i];
    stored_.push_back(checkpoint_ != nullptr && espalier::is_stored(mapping, *checkpoint_));
    at::ScalarType dtype = storage;
    if (parts.parameters[i]->spec().buffer)
      dtype = at::kFloat;
    else if (stored_.back())
      dtype = dtype_of_parameter(mapping, *checkpoint_, as_stored, storage, prevailing);
    dtypes_.push_back(dtype);
  }
}

at::Tensor WeightSource::read(std::size_t index) const {
  const ParameterSpec& spec = parts_.parameters[index]->spec();
  return stored_[index] ? load_parameter(*checkpoint_, spec, parts_.mappings[index], dtypes_[index])
                        : initial_value(spec, dtypes_[index], seed_);
}

at::Tensor WeightSource::read(std::size_t index, const ShardPiece& piece) const {
  if (!stored_[index]) return box(read(index), piece.offset, piece.extent);
  ParameterSlice slice;
  for (std::size_t d = 0; d < piece.offset.size(); ++d)
    slice.push_back({{piece.offset[d], piece.offset[d] + piece.extent[d]}});
  return load_parameter(*checkpoint_, parts_.parameters[index]->spec(), parts_.mappings[index],
                        dtypes_[index], slice);
}

}  // namespace espalier

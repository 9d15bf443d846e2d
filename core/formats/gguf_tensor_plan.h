#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "formats/gguf_families.h"
#include "formats/gguf_writer.h"

namespace espalier::formats {

/// The tensors of a checkpoint under the names, in the order of rows and in the types of a GGUF
/// file. Matrices get `type`, or F16 where their rows are not whole blocks of it; vectors, norms,
/// routers and position embeddings stay F32. Every tensor of the checkpoint has to have a place,
/// and experts have to be complete; anything else is added to `problems`. The sources read from
/// `checkpoint`, one tensor at a time; it has to outlive them.
std::vector<GgufTensorSource> plan_gguf_tensors(const CheckpointReader& checkpoint,
                                                const GgufFamily& family,
                                                const ModelMetadata& metadata, GgmlType type,
                                                ProblemList& problems);

}  // namespace espalier::formats

#include "engine/parallel/shard_pieces.h"

namespace espalier {

at::Tensor box(const at::Tensor& tensor, const std::vector<std::int64_t>& offset,
               const std::vector<std::int64_t>& extent) {
  at::Tensor part = tensor;
  for (std::size_t d = 0; d < offset.size(); ++d)
    part = part.narrow(static_cast<std::int64_t>(d), offset[d], extent[d]);
  return part;
}

void copy_pieces(const at::Tensor& whole, const ParameterLayout& layout, const at::Tensor& local) {
  for (const ShardPiece& piece : layout.pieces)
    box(local, piece.local_offset, piece.extent).copy_(box(whole, piece.offset, piece.extent));
}

}  // namespace espalier

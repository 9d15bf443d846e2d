#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/sdk/communicator.h"

/// Moves of activations between ranks that share layers, each with the move that its backward pass
/// needs. x is [tokens, ...]; a rank's run of tokens is padded with zeros to the length of the
/// longest, ceil(tokens / ranks). The communicator outlives the graph.
namespace espalier::tokens {

/// Forward nothing; backward the sum over the ranks: what follows is computed in parts.
at::Tensor copy_to_ranks(const at::Tensor& x, Communicator& ranks);
/// Forward the sum over the ranks; backward nothing.
at::Tensor sum_over_ranks(const at::Tensor& x, Communicator& ranks);
/// A run -> all tokens, to be computed with in parts; backward the sum over the ranks, cut.
at::Tensor gather(const at::Tensor& run, std::int64_t tokens, Communicator& ranks);
/// Parts of a sum -> the run of the sum; backward a gathering.
at::Tensor sum_and_cut(const at::Tensor& parts, Communicator& ranks);
/// All tokens, the same on every rank -> the run; backward a gathering.
at::Tensor cut(const at::Tensor& x, Communicator& ranks);
/// A run -> all tokens, to be computed with in the same way on every rank; backward a cut.
at::Tensor join(const at::Tensor& run, std::int64_t tokens, Communicator& ranks);

}  // namespace espalier::tokens

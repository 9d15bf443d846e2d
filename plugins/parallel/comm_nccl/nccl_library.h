#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

/// The part of NCCL's C interface that is used here, as of 2.0 and later; the layouts and numbers
/// are NCCL's promise to programs that were built against it. The library is opened at run time.
namespace espalier::nccl {

/// What rank 0 of a group makes and the others need to join it.
struct UniqueId {
  char internal[128];
};

using Comm = struct ncclComm*;

enum class Result : int { kSuccess = 0, kInProgress = 7 };

enum class DataType : int {
  kInt8 = 0,
  kUint8 = 1,
  kInt32 = 2,
  kInt64 = 4,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
};

enum class Sum : int { kSum = 0 };

struct Library {
  Result (*get_unique_id)(UniqueId*) = nullptr;
  Result (*comm_init_rank)(Comm*, int size, UniqueId, int rank) = nullptr;
  Result (*comm_destroy)(Comm) = nullptr;
  Result (*comm_abort)(Comm) = nullptr;
  Result (*comm_get_async_error)(Comm, Result*) = nullptr;
  const char* (*get_error_string)(Result) = nullptr;
  Result (*all_reduce)(const void*, void*, std::size_t count, DataType, Sum, Comm,
                       cudaStream_t) = nullptr;
  Result (*all_gather)(const void*, void*, std::size_t sent, DataType, Comm,
                       cudaStream_t) = nullptr;
  Result (*reduce_scatter)(const void*, void*, std::size_t received, DataType, Sum, Comm,
                           cudaStream_t) = nullptr;
  Result (*broadcast)(const void*, void*, std::size_t count, DataType, int root, Comm,
                      cudaStream_t) = nullptr;
};

/// The library, opened once. Throws Error(kUnsupported) where it or a GPU is missing.
const Library& library();

}  // namespace espalier::nccl

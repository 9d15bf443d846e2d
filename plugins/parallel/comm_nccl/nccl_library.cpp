#include "nccl_library.h"

#include <c10/cuda/CUDAStream.h>
#include <dlfcn.h>

#include <filesystem>

#include "espalier/base/error.h"

#if __has_include(<nccl.h>)
#include <nccl.h>

namespace espalier::nccl {
static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId));
static_assert(static_cast<int>(Result::kInProgress) == ncclInProgress);
static_assert(static_cast<int>(DataType::kInt8) == ncclInt8 &&
              static_cast<int>(DataType::kUint8) == ncclUint8 &&
              static_cast<int>(DataType::kInt32) == ncclInt32 &&
              static_cast<int>(DataType::kInt64) == ncclInt64 &&
              static_cast<int>(DataType::kFloat16) == ncclFloat16 &&
              static_cast<int>(DataType::kFloat32) == ncclFloat32 &&
              static_cast<int>(DataType::kFloat64) == ncclFloat64 &&
              static_cast<int>(DataType::kBfloat16) == ncclBfloat16 &&
              static_cast<int>(Sum::kSum) == ncclSum);
}  // namespace espalier::nccl
#endif

namespace espalier::nccl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSoname = "libnccl.so.2";

[[noreturn]] void refuse(const std::string& what, const std::string& found,
                         const std::string& hint) {
  throw Error(Problem{ErrorCode::kUnsupported, what, found, {}, "dist_env.type", hint});
}

/// Where the wheels that belong to LibTorch put it: nvidia/nccl/lib beside torch/lib.
fs::path beside_libtorch() {
  Dl_info info{};
  ::dladdr(reinterpret_cast<const void*>(&c10::cuda::getStreamFromExternal), &info);
  return fs::path(info.dli_fname).parent_path().parent_path().parent_path() / "nvidia/nccl/lib" /
         kSoname;
}

void* open_library() {
  if (void* handle = ::dlopen(kSoname, RTLD_NOW | RTLD_LOCAL)) return handle;
  if (void* handle = ::dlopen(beside_libtorch().c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  refuse("NCCL can't be opened", ::dlerror(),
         "scripts/setup.sh --gpu fetches it with LibTorch's CUDA libraries");
}

template <class Function>
void find(void* handle, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  if (function == nullptr)
    refuse("NCCL lacks a function", name, "it needs version 2.10 of NCCL or later");
}

Library open() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    refuse("NCCL connects GPUs, and there is none here",
           status == cudaSuccess ? "no device" : cudaGetErrorString(status),
           "leave [dist_env] out: CPUs talk through shared memory or over TCP");
  }
  void* handle = open_library();
  Library library;
  find(handle, "ncclGetUniqueId", library.get_unique_id);
  find(handle, "ncclCommInitRank", library.comm_init_rank);
  find(handle, "ncclCommDestroy", library.comm_destroy);
  find(handle, "ncclCommAbort", library.comm_abort);
  find(handle, "ncclCommGetAsyncError", library.comm_get_async_error);
  find(handle, "ncclGetErrorString", library.get_error_string);
  find(handle, "ncclAllReduce", library.all_reduce);
  find(handle, "ncclAllGather", library.all_gather);
  find(handle, "ncclReduceScatter", library.reduce_scatter);
  find(handle, "ncclBroadcast", library.broadcast);
  return library;
}

}  // namespace

const Library& library() {
  static const Library kOpened = open();
  return kOpened;
}

}  // namespace espalier::nccl

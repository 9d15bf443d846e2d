#include "engine/run/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "espalier/base/error.h"
#include "launch/rank_environment.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

/// Empty when a driver is there and shows a GPU, otherwise what is missing. Costs a millisecond
/// where there is none.
std::string missing_gpu() {
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return "there is no NVIDIA driver (libcuda.so.1)";
  const auto initialise = reinterpret_cast<int (*)(unsigned)>(::dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(::dlsym(driver, "cuDeviceGetCount"));
  int devices = 0;
  if (initialise == nullptr || count == nullptr || initialise(0) != 0 || count(&devices) != 0)
    return "the NVIDIA driver does not start";
  return devices > 0 ? std::string() : "the driver shows no GPU";
}

/// libtorch_cuda.so beside libtorch_cpu.so.
fs::path cuda_library() {
  Dl_info info{};
  ::dladdr(reinterpret_cast<const void*>(&at::globalContext), &info);
  return fs::path(info.dli_fname).parent_path() / "libtorch_cuda.so";
}

/// Opens LibTorch's CUDA part. Empty, or what is missing.
std::string open_cuda() {
  if (std::string missing = missing_gpu(); !missing.empty()) return missing;
  // cuBLAS gives the same bits in every run only with a workspace of a fixed size.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  const fs::path library = cuda_library();
  if (::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
    return std::string("LibTorch's CUDA library can't be opened: ") + ::dlerror();
  if (!at::globalContext().hasCUDA()) return "LibTorch's CUDA library finds no GPU";
  at::globalContext().lazyInitDevice(at::kCUDA);
  // A resumed run has to give the same bits. Ops that have no deterministic form say so.
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  return {};
}

}  // namespace

at::Device choose_device(const std::string& requested) {
  if (requested == "cpu") return at::kCPU;
  if (requested != "auto" && requested != "cuda")
    throw_bad_input("unknown device", requested, "auto, cpu or cuda", "--device");
  const std::string missing = open_cuda();
  if (missing.empty()) {
    // Processes of one host take its GPUs in turn.
    const c10::DeviceIndex devices = at::detail::getCUDAHooks().deviceCount();
    const int own =
        launch::read_rank_environment().local_rank % std::max(1, static_cast<int>(devices));
    return {at::kCUDA, static_cast<c10::DeviceIndex>(own)};
  }
  if (requested != "cuda") return at::kCPU;
  throw Error(Problem{ErrorCode::kUnsupported,
                      "the GPU can't be used",
                      missing,
                      {},
                      "device = \"cuda\"",
                      "install the driver and LibTorch's CUDA libraries (docs/gpu.md), or set "
                      "device = \"cpu\""});
}

std::optional<std::int64_t> peak_device_bytes(at::Device device) {
  if (device.is_cpu()) return std::nullopt;
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}

}  // namespace espalier

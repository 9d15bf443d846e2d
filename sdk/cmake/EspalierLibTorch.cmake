# Finds LibTorch, given as -DESPALIER_LIBTORCH=DIR or by the environment variable of that name (the folder that holds
# include/ and lib/, or a folder with torch/ in it), lying in espalier/libtorch of an installation, or prepared by
# scripts/setup.sh, and defines `espalier_torch`: LibTorch's CPU libraries and headers.
set(ESPALIER_LIBTORCH "$ENV{ESPALIER_LIBTORCH}" CACHE PATH "LibTorch folder; empty: the one of scripts/setup.sh")
set(espalier_torch_root "${ESPALIER_LIBTORCH}")
if(NOT espalier_torch_root AND EXISTS "${ESPALIER_INSTALLED_LIBTORCH}")
  set(espalier_torch_root "${ESPALIER_INSTALLED_LIBTORCH}")
endif()
if(NOT espalier_torch_root)
  set(espalier_cache "$ENV{ESPALIER_CACHE}")
  if(NOT espalier_cache AND DEFINED ENV{XDG_CACHE_HOME})
    set(espalier_cache "$ENV{XDG_CACHE_HOME}/espalier")
  endif()
  if(NOT espalier_cache)
    set(espalier_cache "$ENV{HOME}/.cache/espalier")
  endif()
  set(espalier_torch_root "${espalier_cache}/libtorch-2.15.0")
endif()
if(EXISTS "${espalier_torch_root}/torch/include")
  set(espalier_torch_root "${espalier_torch_root}/torch")
endif()
if(NOT EXISTS "${espalier_torch_root}/include/ATen/core/Tensor.h")
  message(FATAL_ERROR "LibTorch was not found at ${espalier_torch_root}.\n"
    "Configure with -DESPALIER_LIBTORCH=DIR, or fetch it with Espalier's scripts/setup.sh --no-build.")
endif()
set(ESPALIER_TORCH_VERSION "")
foreach(part MAJOR MINOR PATCH)
  file(STRINGS "${espalier_torch_root}/include/torch/headeronly/version.h" line
       REGEX "#define TORCH_VERSION_${part} ")
  string(REGEX MATCH "[0-9]+" number "${line}")
  list(APPEND ESPALIER_TORCH_VERSION ${number})
endforeach()
list(JOIN ESPALIER_TORCH_VERSION "." ESPALIER_TORCH_VERSION)
message(STATUS "LibTorch ${ESPALIER_TORCH_VERSION} at ${espalier_torch_root}")

add_library(espalier_torch INTERFACE)
target_include_directories(espalier_torch SYSTEM INTERFACE
  ${espalier_torch_root}/include ${espalier_torch_root}/include/torch/csrc/api/include)
target_compile_definitions(espalier_torch INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_libraries(espalier_torch INTERFACE
  ${espalier_torch_root}/lib/libtorch_cpu.so ${espalier_torch_root}/lib/libc10.so)
# libtorch_cpu's own dependencies (CUDA runtime, gomp) are found through its run path, not at our link time.
target_link_options(espalier_torch INTERFACE LINKER:--allow-shlib-undefined)

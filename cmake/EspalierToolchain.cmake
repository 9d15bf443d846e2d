# Flags that every target shares. They have to be equal everywhere: the one precompiled header depends on them.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)

find_program(ESPALIER_CCACHE ccache)
if(ESPALIER_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_MAXSIZE=5G
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${ESPALIER_CCACHE})
endif()

include(EspalierFlags)
target_compile_options(espalier_flags BEFORE INTERFACE -Wall -Wextra -Wno-missing-field-initializers)
find_program(ESPALIER_LLD ld.lld)
if(ESPALIER_LLD)
  target_link_options(espalier_flags INTERFACE -fuse-ld=lld)
endif()
# With clang the sanitizers' functions are in the program alone, so libraries of the fuzz targets lack them.
if(NOT ESPALIER_FUZZ)
  target_link_options(espalier_flags INTERFACE LINKER:-z,defs)
endif()
target_link_options(espalier_flags INTERFACE LINKER:--as-needed)

# What everything that Espalier loads is compiled with, in this project and against the installed SDK.
add_library(espalier_flags INTERFACE)
target_compile_features(espalier_flags INTERFACE cxx_std_20)
# Unique symbols would pin a library in memory with one compiler and not with the other. And GCC splits off empty
# ".cold" parts, whose unwind entries share an address with the next function; lld 14 keeps only the first entry of an
# address, and an exception through that function then aborts the program. The flag between is for ccache.
target_compile_options(espalier_flags INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique> $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>
  $<$<CXX_COMPILER_ID:GNU>:-fno-reorder-blocks-and-partition>)

# espalier_add_plugin(NAME SOURCES file... [LIBRARIES target...] [FOLDER dir] [NO_TORCH | STABLE_C] [CUDA]
#                     [CONFORMANCE])
#
# Builds NAME.espalier.so in lib/plugins (or FOLDER), which exports `espalier_plugin` and nothing else, and its manifest:
# in the allocated section .espalier.manifest of the library and, for people, in NAME.espalier.json beside it. The sources
# are compiled once; the build links them a first time, asks that library what it registers, and links them again with
# the answer.
#   NO_TORCH  links espalier_base alone, for plugins that hold no tensors
#   STABLE_C  is for plugins in C, which link nothing of Espalier and work with every one of their major version
#   CUDA      links the shared CUDA runtime; its major version becomes part of the fingerprint
#   CONFORMANCE  makes a test conformance.NAME of `espalier plugins validate`. What its checks need to try the components
#             out is read from conformance.json beside the CMakeLists.txt
function(espalier_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_TORCH;STABLE_C;CUDA;CONFORMANCE" "FOLDER" "SOURCES;LIBRARIES")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
    message(FATAL_ERROR "espalier_add_plugin(${name}): expected SOURCES file...; found '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_FOLDER)
    set(arg_FOLDER ${CMAKE_BINARY_DIR}/lib/plugins)
  endif()
  set(libraries espalier::sdk ${arg_LIBRARIES})
  if(arg_NO_TORCH)
    set(libraries espalier::base ${arg_LIBRARIES})
  endif()
  set(suffix cpp)
  set(language CXX)
  if(arg_STABLE_C)
    set(libraries ${arg_LIBRARIES})
    set(suffix c)
    set(language C)
  endif()
  set(target plugin_${name})

  add_library(${target}_objects OBJECT ${arg_SOURCES})
  target_link_libraries(${target}_objects PUBLIC ${libraries})
  set_target_properties(${target}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(arg_STABLE_C)
    target_include_directories(${target}_objects PRIVATE
      $<TARGET_PROPERTY:espalier::base,INTERFACE_INCLUDE_DIRECTORIES>)
  elseif(arg_NO_TORCH)
    target_compile_definitions(${target}_objects PRIVATE ESPALIER_NO_TORCH)
  elseif(TARGET espalier_pch)
    target_precompile_headers(${target}_objects REUSE_FROM espalier_pch)
  endif()
  if(arg_CUDA)
    target_compile_definitions(${target}_objects PRIVATE ESPALIER_WITH_CUDA)
    set_target_properties(${target}_objects PROPERTIES CUDA_RUNTIME_LIBRARY Shared)
  endif()

  set(work ${CMAKE_CURRENT_BINARY_DIR}/${target}.dir)
  set(manifest ${work}/manifest.json)
  file(CONFIGURE OUTPUT ${work}/manifest.${suffix} CONTENT [[
__asm__(".section .espalier.manifest,\"aR\",@progbits\n.incbin \"@manifest@\"\n.previous\n");
]] @ONLY)
  espalier_link_plugin(${target}_stage1 ${target}_objects ${language})
  set_target_properties(${target}_stage1 PROPERTIES OUTPUT_NAME stage1 LIBRARY_OUTPUT_DIRECTORY ${work})
  set(environment "")
  if(ESPALIER_LIBTORCH)
    set(environment ${CMAKE_COMMAND} -E env "LD_LIBRARY_PATH=${espalier_torch_root}/lib:$ENV{LD_LIBRARY_PATH}")
  endif()
  add_custom_command(OUTPUT ${manifest}
    COMMAND ${environment} $<TARGET_FILE:espalier::manifest> $<TARGET_FILE:${target}_stage1> ${manifest}
    DEPENDS ${target}_stage1 espalier::manifest VERBATIM COMMENT "Manifest of ${name}")
  set_source_files_properties(${work}/manifest.${suffix} PROPERTIES OBJECT_DEPENDS ${manifest})

  espalier_link_plugin(${target} ${target}_objects ${language} ${work}/manifest.${suffix})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name}.espalier LIBRARY_OUTPUT_DIRECTORY ${arg_FOLDER})
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${manifest} ${arg_FOLDER}/${name}.espalier.json VERBATIM)
  set_property(GLOBAL APPEND PROPERTY ESPALIER_PLUGIN_TARGETS ${target})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/conformance.json)
    configure_file(conformance.json ${arg_FOLDER}/${name}.conformance.json COPYONLY)
  endif()
  if(arg_CONFORMANCE)
    if(NOT ESPALIER_PROGRAM)
      set(ESPALIER_PROGRAM $<TARGET_FILE:espalier>)
    endif()
    add_test(NAME conformance.${name} COMMAND ${ESPALIER_PROGRAM} plugins validate $<TARGET_FILE:${target}>)
    set_tests_properties(conformance.${name} PROPERTIES TIMEOUT 600)
  endif()
  if(COMMAND espalier_install_plugin)
    espalier_install_plugin(${target} ${arg_FOLDER})
  endif()
endfunction()

# The link that both stages share; further arguments are sources of this target alone.
function(espalier_link_plugin target objects language)
  add_library(${target} MODULE $<TARGET_OBJECTS:${objects}> ${ARGN})
  target_link_libraries(${target} PRIVATE ${objects})
  set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".so" LINKER_LANGUAGE ${language}
    LINK_DEPENDS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/plugin.map)
  target_link_options(${target} PRIVATE LINKER:--version-script=${CMAKE_CURRENT_FUNCTION_LIST_DIR}/plugin.map
    LINKER:--exclude-libs,ALL LINKER:-z,defs LINKER:-z,now)
endfunction()

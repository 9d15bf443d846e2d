# cmake --install: the program, the libraries, the plugins, and what a plugin author needs (headers, CMake package,
# templates, documentation). The tree can be moved as a whole. LibTorch is not part of it: libraries look for it in
# lib/espalier/libtorch of the tree, then where it was for this build; ESPALIER_LIBTORCH comes before both.
include(GNUInstallDirs)
set(espalier_plugin_folder ${CMAKE_INSTALL_LIBDIR}/espalier/plugins)

# espalier_run_path(TARGET UP): where an installed library looks for others; UP leads from its folder to lib/.
function(espalier_run_path target up)
  set_target_properties(${target} PROPERTIES
    INSTALL_RPATH "$ORIGIN${up};$ORIGIN${up}/espalier/libtorch/lib;${espalier_torch_root}/lib")
endfunction()

# Called by espalier_add_plugin for every plugin; those of the tests stay in the build tree.
function(espalier_install_plugin target folder)
  if(NOT folder STREQUAL "${CMAKE_BINARY_DIR}/lib/plugins")
    return()
  endif()
  espalier_run_path(${target} /../..)
  install(TARGETS ${target} LIBRARY DESTINATION ${espalier_plugin_folder})
  get_target_property(name ${target} OUTPUT_NAME)
  install(FILES ${folder}/${name}.json DESTINATION ${espalier_plugin_folder})
endfunction()

# Called last, when all targets are there.
function(espalier_install_sdk)
  set(libraries espalier_base)
  if(ESPALIER_ENGINE)
    list(APPEND libraries espalier_sdk espalier_conformance espalier_engine)
  endif()
  foreach(library IN LISTS libraries)
    espalier_run_path(${library} "")
  endforeach()
  set_target_properties(espalier espalier-manifest PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS ${libraries} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS espalier espalier-manifest RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

  set(include ${CMAKE_INSTALL_INCLUDEDIR}/espalier)
  foreach(folder base nn ops io peft data parallel conformance stable)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/sdk/${folder}/ DESTINATION ${include}/${folder} FILES_MATCHING PATTERN "*.h")
  endforeach()
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/sdk/include/espalier/sdk/ DESTINATION ${include}/sdk)
  install(FILES ${PROJECT_BINARY_DIR}/generated/espalier/sdk/fingerprint.h DESTINATION ${include}/sdk)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/sdk/template DESTINATION ${CMAKE_INSTALL_DATADIR}/espalier)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/espalier)

  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Espalier)
  include(CMakePackageConfigHelpers)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/sdk/cmake/EspalierConfig.cmake.in
    ${PROJECT_BINARY_DIR}/EspalierConfig.cmake INSTALL_DESTINATION ${package}
    PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_BINDIR CMAKE_INSTALL_INCLUDEDIR)
  # Plugins are bound to one build of the SDK by its fingerprint, so only a minor version can promise to compile.
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/EspalierConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  set(cmake ${PROJECT_SOURCE_DIR}/sdk/cmake)
  install(FILES ${PROJECT_BINARY_DIR}/EspalierConfig.cmake ${PROJECT_BINARY_DIR}/EspalierConfigVersion.cmake
    ${cmake}/EspalierPlugin.cmake ${cmake}/EspalierFlags.cmake ${cmake}/EspalierLibTorch.cmake ${cmake}/plugin.map
    DESTINATION ${package})
endfunction()

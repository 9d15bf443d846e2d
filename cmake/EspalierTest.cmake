# espalier_add_test(NAME sources... [LIBRARIES ...]): one GoogleTest program, each of its tests known to ctest.
# Tests find their data through the environment variables ESPALIER_FIXTURES,
# ESPALIER_BIN (the program) and ESPALIER_TEST_BUILD (the build folder of the tests).
function(espalier_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "LIBRARIES")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} espalier_base espalier_test_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/core ${PROJECT_SOURCE_DIR}/tests)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT ${arg_TIMEOUT})
endfunction()

# moe_library(NAME SRCS a.cc ... DEPS b ...)   a static library, with the project's flags
# moe_program(NAME SRCS main.cc ... DEPS ...)  an executable in build/PRESET/bin
# moe_test(NAME SRCS a_test.cc ... DEPS ... [LABELS unit] [TIMEOUT seconds])
# Each uses the precompiled header of what it links (MoePrecompiled.cmake). The tests' own code is
# not optimised: what they test is, and they compile faster. Where everything is built to be run once,
# they have no line numbers either.
set(moe_test_options -O0)
if(CMAKE_UNITY_BUILD AND NOT MOE_SANITIZE)
  list(APPEND moe_test_options -g0)
endif()

function(moe_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_link_libraries(${name} PUBLIC moe_flags ${ARG_DEPS})
  moe_precompile(${name} "" ${ARG_DEPS})
endfunction()

function(moe_program name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE moe_flags ${ARG_DEPS})
  moe_precompile(${name} "" ${ARG_DEPS})
endfunction()

function(moe_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE moe_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_options(${name} PRIVATE ${moe_test_options})
  moe_precompile(${name} _test ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests"
                                           UNITY_BUILD OFF)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
      ENVIRONMENT "MOE_BIN_DIR=${CMAKE_BINARY_DIR}/bin;MOE_SOURCE_DIR=${CMAKE_SOURCE_DIR};TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan/suppressions.txt:second_deadlock_stack=1")
endfunction()

# Language level, warnings, sanitizers and the compiler cache.

option(MOE_BUILD_TESTS "Build the tests" ON)
option(MOE_WITH_TORCH "Build moe-rank, which needs LibTorch" ON)
option(MOE_ASSERTIONS "Keep assert() in optimised builds" OFF)
set(MOE_SANITIZE "" CACHE STRING "Comma-separated list for -fsanitize")
set(MOE_CUDA "AUTO" CACHE STRING "Build the CUDA plug-in: AUTO (where nvcc is found), ON, OFF")
set_property(CACHE MOE_CUDA PROPERTY STRINGS AUTO ON OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

# GCC 12 sees overlapping copies in std::string at -O3 that are not there.
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG -Wno-restrict")
# Line tables are enough for stack traces; full debug information doubles the link time.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
if(MOE_ASSERTIONS)
  string(REPLACE "-DNDEBUG" "" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
endif()

if(MOE_SANITIZE)
  # The sanitizers' checks at -O1 take twice the time to compile and at -O2 four times, for nothing.
  string(REPLACE "-O2" "-O0" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
endif()

add_library(moe_flags INTERFACE)
target_compile_options(moe_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter
    -Wno-missing-field-initializers -Werror=return-type -Werror=switch
    -fno-omit-frame-pointer>)
# GCC collects its garbage less often: a tenth of its time for some hundred megabytes.
target_compile_options(moe_flags INTERFACE
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:--param=ggc-min-expand=200 --param=ggc-min-heapsize=400000>)
target_include_directories(moe_flags INTERFACE "${CMAKE_SOURCE_DIR}")
if(CMAKE_UNITY_BUILD)
  # GCC takes a file that another one includes for a header.
  target_compile_options(moe_flags INTERFACE
      $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endif()
if(MOE_SANITIZE)
  target_compile_options(moe_flags INTERFACE
      $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MOE_SANITIZE} -fno-sanitize-recover=all>)
  target_link_options(moe_flags INTERFACE -fsanitize=${MOE_SANITIZE})
endif()
if(MOE_SANITIZE MATCHES thread)
  add_library(moe_tsan SHARED "${CMAKE_SOURCE_DIR}/cmake/tsan/absl_mutex.cc")
  target_link_options(moe_tsan PRIVATE -fsanitize=thread)
  target_link_libraries(moe_flags INTERFACE -Wl,--no-as-needed moe_tsan)
endif()

find_program(MOE_CCACHE ccache)
if(MOE_CCACHE)
  # pch_defines and time_macros let ccache serve files that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
      CCACHE_NOHASHDIR=1 ${MOE_CCACHE})
endif()
find_program(MOE_MOLD mold)
if(MOE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

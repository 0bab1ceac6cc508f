# Precompiled headers for the two families of heavy headers:
#
#   wire    gRPC and the project's messages: targets that reach moe_proto
#   torch   ATen's tensor: targets that reach LibTorch
#
# Tests have one of each with GoogleTest on top. Loading one costs GCC 10 ms a MB, so a target
# without heavy headers has none: its files would compile more slowly. Sources still include what
# they use, for the lint compiles them without.

set(moe_precompiled_common <algorithm> <chrono> <functional> <map> <memory> <optional> <string> <vector>
    <absl/status/statusor.h> <absl/synchronization/mutex.h> <fmt/format.h> <fmt/ranges.h>
    <spdlog/spdlog.h>)
set(moe_precompiled_wire <google/protobuf/util/json_util.h> <grpcpp/grpcpp.h> <moe/v1/job_service.pb.h>
    <moe/v1/worker_service.pb.h>)
set(moe_precompiled_torch <ATen/Parallel.h> <ATen/core/Tensor.h> <ATen/ops/empty.h> <ATen/ops/zeros.h>
    <nlohmann/json.hpp>)
set(moe_precompiled_wire_links moe_proto)
set(moe_precompiled_torch_links moe::torch nlohmann_json::nlohmann_json)

# One .gch serves libraries and programs: both are position-independent in the same way.
set(CMAKE_CXX_COMPILE_OPTIONS_PIE "-fPIC")

# The target that owns the precompiled header of `kind` (with `_test`: and GoogleTest).
function(moe_precompiled_owner kind test result)
  set(owner moe_precompiled_${kind}${test})
  set(${result} ${owner} PARENT_SCOPE)
  if(TARGET ${owner})
    return()
  endif()
  set(source "${CMAKE_BINARY_DIR}/precompiled/${owner}.cc")
  file(CONFIGURE OUTPUT "${source}" CONTENT "")
  add_library(${owner} OBJECT "${source}")
  target_link_libraries(${owner} PRIVATE moe_flags moe::absl moe::logging
                                         ${moe_precompiled_${kind}_links})
  target_precompile_headers(${owner} PRIVATE ${moe_precompiled_common} ${moe_precompiled_${kind}})
  if(test)
    target_link_libraries(${owner} PRIVATE GTest::gtest GTest::gmock)
    target_compile_options(${owner} PRIVATE ${moe_test_options})
    target_precompile_headers(${owner} PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
  endif()
endfunction()

# moe_precompile(TARGET "" DEP...)   `_test` for "" in tests
function(moe_precompile target test)
  foreach(dep IN LISTS ARGN)
    if(TARGET ${dep})
      get_target_property(kind ${dep} MOE_PRECOMPILED)
      if(kind)
        set_target_properties(${target} PROPERTIES MOE_PRECOMPILED ${kind})
        moe_precompiled_owner(${kind} "${test}" owner)
        target_precompile_headers(${target} REUSE_FROM ${owner})
        # ccache asks GCC for this to serve files that use a precompiled header. The owner must go
        # without: an older .gch would stand for the headers from which the next one is made.
        target_compile_options(${target} PRIVATE
            $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
        return()
      endif()
    endif()
  endforeach()
endfunction()

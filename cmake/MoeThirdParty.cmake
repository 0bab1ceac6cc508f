# Every third party as an imported target `moe::NAME`, found in one place.
# Debian 12 packages unless said otherwise; deploy/install_deps.sh installs them.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(Protobuf REQUIRED)
find_package(nlohmann_json REQUIRED)

add_library(moe_absl INTERFACE)
target_link_libraries(moe_absl INTERFACE absl::status absl::statusor absl::synchronization
                                         absl::flat_hash_map absl::strings)
add_library(moe::absl ALIAS moe_absl)

add_library(moe_logging INTERFACE)
target_link_libraries(moe_logging INTERFACE spdlog::spdlog fmt::fmt)
add_library(moe::logging ALIAS moe_logging)

# Debian's gRPC, through pkg-config: its CMake package wants to own protobuf and Abseil.
pkg_check_modules(GRPC REQUIRED IMPORTED_TARGET grpc++)
add_library(moe_grpc INTERFACE)
target_link_libraries(moe_grpc INTERFACE PkgConfig::GRPC protobuf::libprotobuf Threads::Threads)
add_library(moe::grpc ALIAS moe_grpc)
# Certificates and hashes; gRPC brings the same library.
pkg_check_modules(LIBCRYPTO REQUIRED IMPORTED_TARGET libcrypto)
add_library(moe::crypto ALIAS PkgConfig::LIBCRYPTO)
find_program(MOE_PROTOC protoc REQUIRED)
find_program(MOE_GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

# Reflection registers itself and nothing refers to its symbols, hence --no-as-needed.
add_library(moe_grpc_reflection INTERFACE)
target_link_options(moe_grpc_reflection INTERFACE
    -Wl,--push-state,--no-as-needed -lgrpc++_reflection -Wl,--pop-state)
add_library(moe::grpc_reflection ALIAS moe_grpc_reflection)

function(moe_find_c_library target header library)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  find_library(${target}_LIBRARY ${library} REQUIRED)
  add_library(moe_tp_${target} INTERFACE)
  if(NOT ${target}_INCLUDE STREQUAL "/usr/include")
    target_include_directories(moe_tp_${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  endif()
  target_link_libraries(moe_tp_${target} INTERFACE ${${target}_LIBRARY})
  add_library(moe::${target} ALIAS moe_tp_${target})
endfunction()

moe_find_c_library(rocksdb rocksdb/db.h rocksdb)
moe_find_c_library(prometheus_core prometheus/registry.h prometheus-cpp-core)
moe_find_c_library(prometheus_pull prometheus/exposer.h prometheus-cpp-pull)
moe_find_c_library(yaml yaml-cpp/yaml.h yaml-cpp)
moe_find_c_library(sentencepiece sentencepiece_processor.h sentencepiece)
moe_find_c_library(pcre2 pcre2.h pcre2-8)
moe_find_c_library(zstd zstd.h zstd)
moe_find_c_library(zlib zlib.h z)
moe_find_c_library(xxhash xxhash.h xxhash)
moe_find_c_library(simdjson simdjson.h simdjson)
moe_find_c_library(cld2 cld2/public/compact_lang_det.h cld2)
find_path(MOE_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)

if(MOE_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()

# LibTorch is the PyPI wheel, unpacked by deploy/install_deps.sh. Our own imported target: the
# wheel's find_package(Torch) drags in the CUDA language and its flags.
if(MOE_WITH_TORCH)
  if(DEFINED ENV{MOE_CACHE_DIR})
    set(moe_cache_dir "$ENV{MOE_CACHE_DIR}")
  else()
    set(moe_cache_dir "$ENV{HOME}/.cache/moe")
  endif()
  set(MOE_TORCH_ROOT "${moe_cache_dir}/libtorch-2.11.0" CACHE PATH "Where LibTorch was unpacked")
  if(NOT EXISTS "${MOE_TORCH_ROOT}/lib/libtorch_cpu.so")
    message(FATAL_ERROR "LibTorch is not in ${MOE_TORCH_ROOT}: run deploy/install_deps.sh, or set "
                        "MOE_TORCH_ROOT, or configure with -DMOE_WITH_TORCH=OFF")
  endif()
  add_library(moe_torch INTERFACE)
  target_include_directories(moe_torch SYSTEM INTERFACE "${MOE_TORCH_ROOT}/include")
  # libtorch_cpu refers to CUDA symbols that only libtorch_cuda defines; they are never called
  # where there is no GPU.
  target_link_options(moe_torch INTERFACE -Wl,--unresolved-symbols=ignore-in-shared-libs
                                          "-Wl,-rpath,${MOE_TORCH_ROOT}/lib")
  target_link_libraries(moe_torch INTERFACE
      "${MOE_TORCH_ROOT}/lib/libtorch_cpu.so" "${MOE_TORCH_ROOT}/lib/libc10.so"
      "${MOE_TORCH_ROOT}/lib/libgomp.so.1")
  add_library(moe::torch ALIAS moe_torch)
  set_target_properties(moe_torch PROPERTIES MOE_PRECOMPILED torch)

  # Its CUDA part, there where it was unpacked with nvcc at hand; for the plug-in alone. Nothing here
  # refers to most of it, hence --no-as-needed.
  set(MOE_TORCH_CUDA "${MOE_TORCH_ROOT}/lib/libtorch_cuda.so")
  if(EXISTS "${MOE_TORCH_CUDA}")
    add_library(moe_torch_cuda INTERFACE)
    target_link_options(moe_torch_cuda INTERFACE
        -Wl,--push-state,--no-as-needed "${MOE_TORCH_CUDA}" "${MOE_TORCH_ROOT}/lib/libc10_cuda.so"
        -Wl,--pop-state)
    add_library(moe::torch_cuda ALIAS moe_torch_cuda)
  endif()

  # Debian's Gloo must come before libtorch_cpu on the link line: both export gloo::.
  moe_find_c_library(gloo gloo/context.h gloo)
  # Partitions graphs, for the construction method coactivation-graph.
  moe_find_c_library(metis metis.h metis)
endif()

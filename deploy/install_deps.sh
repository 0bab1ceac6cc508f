#!/usr/bin/env bash
# Installs what building, running and testing need on Debian 12, and nothing that is already there.
#
#   deploy/install_deps.sh [build|test]      default: build
#
# build   compilers, Debian libraries, Prometheus, LibTorch (the PyPI wheel, unpacked)
# test    the same, plus the linters, the Python oracles and the example's checkpoint
#
# Where nvcc is, LibTorch's CUDA part is unpacked too; where a GPU is as well, the NVIDIA libraries
# that it loads (2 GB, wheels from PyPI).
#
# What is not a Debian package goes to ${MOE_CACHE_DIR:-~/.cache/moe}; nothing else is touched.
# Safe to repeat: a second run takes a second.
set -euo pipefail

readonly TORCH_VERSION=2.11.0
readonly CUDART_VERSION=13.0.96
readonly CUPTI_VERSION=13.0.85
# What libtorch_cuda.so of that version was built against.
readonly NVIDIA_WHEELS=(
  nvidia-cublas==13.1.0.3 nvidia-cuda-nvrtc==13.0.88 nvidia-cudnn-cu13==9.19.0.56 nvidia-cufft==12.0.0.61
  nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35 nvidia-cusparse==12.6.3.3
  nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvjitlink==13.0.88 nvidia-nvshmem-cu13==3.4.5
)
readonly CACHE_DIR="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
readonly TORCH_ROOT="$CACHE_DIR/libtorch-$TORCH_VERSION"
readonly LINT_VENV="$CACHE_DIR/lint-venv"
readonly ORACLE_VENV="$CACHE_DIR/oracle-venv"
readonly GRPC_VENV="$CACHE_DIR/grpc-venv"

BUILD_PACKAGES=(
  g++ cmake ninja-build ccache mold pkg-config git ca-certificates
  libabsl-dev libcld2-dev libcli11-dev libfmt-dev libgloo-dev libgrpc++-dev libmetis-dev libpcre2-dev libprotobuf-dev
  librocksdb-dev libsentencepiece-dev libsimdjson-dev libspdlog-dev libssl-dev libxxhash-dev
  libyaml-cpp-dev libzstd-dev nlohmann-json3-dev prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc
  prometheus python3 python3-pip python3-venv unzip curl jq zlib1g-dev
)
TEST_PACKAGES=(
  libgtest-dev libgmock-dev clang clang-tidy clang-format shellcheck codespell yamllint iproute2 tmux
)

say() { printf '%s\n' "install_deps: $*" >&2; }
die() { say "error: $*"; exit 1; }

install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "installing Debian packages: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "not root and no sudo; run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  # policy-rc.d semantics without touching the system: the Debian prometheus package would start
  # a service on port 9090, and the quickstart runs its own.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# $1 the folder; the rest are requirements. Into it, without what they depend on.
fetch_wheels() {
  local folder="$1" glibc platforms=(); shift
  for glibc in 5 12 17 18 24 25 27 28; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" \
    --only-binary=:all: --python-version 3.11 "${platforms[@]}" --platform manylinux2014_x86_64 \
    --platform manylinux1_x86_64 "$@"
}

has_nvcc() { command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }
has_gpu() { [ -e /dev/nvidiactl ]; }

has_torch() {
  [ -e "$TORCH_ROOT/.complete" ] || return 1
  if has_nvcc && [ ! -e "$TORCH_ROOT/lib/libtorch_cuda.so" ]; then return 1; fi
  if has_nvcc && has_gpu && [ ! -e "$TORCH_ROOT/lib/libtorch_nvshmem.so" ]; then return 1; fi
}

# The CPU part of the wheel, plus the two CUDA libraries that libtorch_cpu.so is linked against.
# The CUDA part is kept only where nvcc is, because only there the plug-in is built.
install_torch() {
  if has_torch; then return; fi
  say "fetching LibTorch (the PyPI wheel torch $TORCH_VERSION, 530 MB)"
  mkdir -p "$CACHE_DIR"
  local work
  work="$(mktemp -d "$CACHE_DIR/libtorch.XXXXXX")"
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  fetch_wheels "$work" "torch==$TORCH_VERSION" "nvidia-cuda-runtime==$CUDART_VERSION" \
    "nvidia-cuda-cupti==$CUPTI_VERSION"
  say "unpacking LibTorch"
  local exclude=('torch/lib/libtorch_python.so' 'torch/lib/libshm*' 'torch/lib/libtorch_cuda_linalg.so')
  has_nvcc || exclude+=('torch/lib/libtorch_cuda.so' 'torch/lib/libc10_cuda.so')
  has_gpu || exclude+=('torch/lib/libtorch_nvshmem.so')
  unzip -q "$work"/torch-*.whl 'torch/lib/*' 'torch/include/*' -x "${exclude[@]}" -d "$work"
  unzip -q -j "$work"/nvidia_cuda_runtime-*.whl '*/libcudart.so.13' -d "$work/torch/lib"
  unzip -q -j "$work"/nvidia_cuda_cupti-*.whl '*/libcupti.so.13' -d "$work/torch/lib"
  # The wheel's copies of fmt and protobuf headers would shadow Debian's, which we link against.
  rm -rf "$work"/torch/include/{fmt,google,pybind11}
  touch "$work/torch/.complete"
  rm -rf "$TORCH_ROOT"
  mv "$work/torch" "$TORCH_ROOT"
  rm -rf "$work"
  trap - EXIT
}

# What libtorch_cuda.so loads, beside it, where its loader looks; and the header of NCCL, which
# toolkits come without.
install_nvidia_libraries() {
  local stamp="$TORCH_ROOT/.nvidia"
  if ! has_nvcc || ! has_gpu || [ -e "$stamp" ]; then return; fi
  say "fetching the NVIDIA libraries of torch $TORCH_VERSION (2 GB)"
  local work wheel
  work="$(mktemp -d "$CACHE_DIR/nvidia.XXXXXX")"
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  fetch_wheels "$work" "${NVIDIA_WHEELS[@]}"
  for wheel in "$work"/*.whl; do unzip -q -j -o "$wheel" '*.so*' -d "$TORCH_ROOT/lib"; done
  unzip -q -j -o "$work"/nvidia_nccl*.whl '*/nccl.h' -d "$TORCH_ROOT/include"
  touch "$stamp"
  rm -rf "$work"
  trap - EXIT
}

# $1 the folder, the rest pip requirements. Rebuilt when the requirements change.
install_venv() {
  local venv="$1"; shift
  local stamp="$venv/.requirements"
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$*" ]; then return; fi
  say "making the Python environment $(basename "$venv")"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
  printf '%s' "$*" >"$stamp"
}

main() {
  local what="${1:-build}"
  case "$what" in
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    build | test) ;;
    *) say "unknown set '$what'; use build or test"; exit 2 ;;
  esac
  install_packages "${BUILD_PACKAGES[@]}"
  install_torch
  install_nvidia_libraries
  if [ "$what" = test ]; then
    install_packages "${TEST_PACKAGES[@]}"
    "$(dirname "$0")/fetch_model.sh" >/dev/null
    install_venv "$LINT_VENV" buf-bin
    install_venv "$GRPC_VENV" grpcio grpcio-reflection grpcio-health-checking
    install_venv "$ORACLE_VENV" numpy safetensors gguf sentencepiece tokenizers
  fi
}

main "$@"

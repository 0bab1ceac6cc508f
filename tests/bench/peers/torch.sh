# Sourced by benchmarks with PyTorch beside them: sets `python` to an interpreter that has it, with
# transformers and safetensors, in an environment of its own that is made where it is missing. Where
# that fails, it says so and leaves `python`: benchmarks name what is missing and go on.
# shellcheck shell=bash
venv="${MOE_CACHE_DIR:-$HOME/.cache/moe}/bench-venv"

# PyTorch as the wheel has it, with the few libraries that its import needs. CUDA's own come from a
# toolkit where there is one.
install_torch() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --no-deps torch==2.11.0 nvidia-cufile \
    nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5
  "$venv/bin/pip" install --quiet typing-extensions sympy networkx jinja2 fsspec filelock numpy \
    setuptools
  # Named as missing in the report where they are.
  "$venv/bin/pip" install --quiet transformers safetensors || true
}
export LD_LIBRARY_PATH="/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  install_torch >&2 || echo "PyTorch could not be installed in $venv" >&2
fi
# shellcheck disable=SC2034  # of whoever sources this
[ ! -x "$venv/bin/python" ] || python="$venv/bin/python"

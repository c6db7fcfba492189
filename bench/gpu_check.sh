#!/usr/bin/env bash
# Proves the GPU path on a machine with a GPU, inside nine minutes: build, tests, sanitizers, benchmarks.
#
#     bench/gpu_check.sh [PYTHON]
#
# PYTHON has a CUDA torch, triton, setuptools, pybind11, ninja, pytest and pytest-benchmark; nothing is downloaded. The
# modules are built in the checkout. Writes bench/results/gpu-check.json (what ran, for how long, how it ended) and
# appends to bench/results/gpu.csv (a row an op, see bench_gpu.py) and gpu-models.csv (bench_gpu_models.py). Ends with 1
# unless every step ended with 0; a step for which no time is left, or whose tool is missing, has failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
python=${1:-python3}
export PYTHONPATH=$PWD
export CUBLAS_WORKSPACE_CONFIG=:4096:8  # tests run torch's deterministic algorithms
readonly LAST=525                       # seconds after which no step is left running; the rest is for the report
steps=()

step() {  # step NAME MOST_SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS code
  shift 2
  if ((limit > LAST - SECONDS)); then limit=$((LAST - SECONDS)); fi
  printf '\n=== %s (at %ss, at most %ss)\n' "$name" "$SECONDS" "$limit"
  if ((limit > 0)); then
    timeout --signal=INT --kill-after=5 "$limit" "$@"
    code=$?
  else
    code=124
  fi
  printf '=== %s: exit status %s\n' "$name" "$code"
  steps+=("$name" "$code" "$((SECONDS - start))")
}

sanitize() {  # sanitize TOOL: the CUDA kernels on small frames of odd size
  compute-sanitizer --tool "$1" --error-exitcode 1 --target-processes all \
    "$python" -m pytest -q -p no:cacheprovider -m gpu tests/ops/test_cuda.py \
    -k "test_value_and_gradient and not triton and channels_last and (7x5 or 63x65)"
}
export -f sanitize
export python

step build 210 env DEPTHSR_CUDA=1 "$python" setup.py build_ext --inplace
step load 60 "$python" -c 'import torch; torch.cuda.init(); import depthsr.ops, depthsr._C_cuda'
# To compile the network in every mode takes minutes, and no other step needs it: last.
readonly compiled=tests/test_cuda_runtime.py::test_compiled_whole_equals_eager
readonly COMPILED_SECONDS=120
step tests 150 "$python" -m pytest -q -p no:cacheprovider -m gpu tests --deselect "$compiled"
step models 110 "$python" -m pytest -q -p no:cacheprovider bench/bench_gpu_models.py --benchmark-only
step memcheck 90 bash -c 'sanitize memcheck'
step racecheck 90 bash -c 'sanitize racecheck'
step benchmarks $((LAST - SECONDS - COMPILED_SECONDS)) \
  "$python" -m pytest -q -p no:cacheprovider bench/bench_gpu.py --benchmark-only
step compiled "$COMPILED_SECONDS" "$python" -m pytest -q -p no:cacheprovider "$compiled"

"$python" bench/gpu_report.py bench/results/gpu-check.json "${steps[@]}"

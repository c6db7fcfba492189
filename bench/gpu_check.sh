#!/usr/bin/env bash
# Proves the GPU path on a machine with a GPU, inside nine minutes: build, tests, sanitizers, benchmarks.
#
#     bench/gpu_check.sh [PYTHON]
#
# PYTHON has a CUDA torch, triton, setuptools, pybind11, ninja, pytest and pytest-benchmark; nothing is downloaded. With
# pytest-xdist the tests run in several processes: most of their time is compilation on the CPU. The modules are built in
# the checkout. Writes bench/results/gpu-check.json (what ran, for how long, how it ended) and appends to
# bench/results/gpu.csv (a row an op, see bench_gpu.py) and gpu-models.csv (bench_gpu_models.py). Ends with 1 unless every
# step ended with 0; a step for which no time is left, or whose tool is missing, has failed.
#
# GPU_CHECK_SECONDS  where there are fewer than nine minutes (525); steps in order of what only a GPU can say.
# BENCH_COMMIT       for the rows, where the tree was copied here without its repository.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
python=${1:-python3}
export PYTHONPATH=$PWD
export CUBLAS_WORKSPACE_CONFIG=:4096:8     # tests run torch's deterministic algorithms
# A cache of Inductor's from another checkout would test that one's kernels: launchers and block sizes are in no key.
export TORCHINDUCTOR_FORCE_DISABLE_CACHES=1
readonly LAST=${GPU_CHECK_SECONDS:-525}    # seconds after which no step is left running; the rest is for the report
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
steps=()

run() {  # run NAME MOST_SECONDS COMMAND...: leaves exit status and seconds in $logs/NAME
  local name=$1 limit=$2 start=$SECONDS code=124
  shift 2
  if ((limit > LAST - SECONDS)); then limit=$((LAST - SECONDS)); fi
  if ((limit > 0)); then
    timeout --signal=INT --kill-after=5 "$limit" "$@"
    code=$?
  fi
  echo "$code $((SECONDS - start))" >"$logs/$name"
}

note() {  # note NAME: what `run` left
  local code seconds
  read -r code seconds <"$logs/$1"
  printf '=== %s: exit status %s after %s s (at %ss)\n' "$1" "$code" "$seconds" "$SECONDS"
  steps+=("$1" "$code" "$seconds")
}

step() {  # step NAME MOST_SECONDS COMMAND...
  printf '\n=== %s\n' "$1"
  run "$@"
  note "$1"
}

beside() {  # beside NAME MOST_SECONDS COMMAND...: the same in the background; `waited NAME` for it
  run "$@" &>"$logs/$1.log" &
}

waited() {
  printf '\n=== %s\n' "$1"
  cat "$logs/$1.log"
  note "$1"
}

sanitize() {  # sanitize TOOL: the CUDA kernels on small frames of odd size
  # Of our kernels, not of the calls to CUDA that libraries make to see whether they fail.
  compute-sanitizer --tool "$1" --error-exitcode 1 --target-processes all --report-api-errors no \
    "$python" -m pytest -q -p no:cacheprovider -m gpu tests/ops/test_cuda.py \
    -k "test_value_and_gradient and not triton and channels_last and (7x5 or 63x65)"
}
export -f sanitize
export python

# The tests of files need packages that no kernel does (OpenEXR), and none of them needs a GPU.
tests=("$python" -m pytest -q -p no:cacheprovider -m gpu --tb=short --ignore=tests/io)
if "$python" -c 'import xdist' 2>/dev/null; then
  processes=$(($(nproc) > 10 ? 8 : $(nproc) / 2))
  tests+=(-n "$((processes > 0 ? processes : 1))" --dist worksteal)
fi

step build 210 env DEPTHSR_CUDA=1 "$python" setup.py build_ext --inplace
step load 60 "$python" -c 'import torch; torch.cuda.init(); import depthsr.ops, depthsr._C_cuda'
# Nothing is timed in these, so they may disturb each other. To compile the network in every mode takes minutes: last.
readonly compiled=tests/test_cuda_runtime.py::test_compiled_whole_equals_eager
readonly COMPILED_SECONDS=120
# Each tensor in memory of its own: torch's caching allocator cuts them from large pieces, in which none overruns.
beside memcheck 150 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 bash -c 'sanitize memcheck'
beside racecheck 150 bash -c 'sanitize racecheck'
step tests 180 "${tests[@]}" tests --deselect "$compiled"
wait
waited memcheck
waited racecheck
step models 110 "$python" -m pytest -q -p no:cacheprovider bench/bench_gpu_models.py --benchmark-only
step launches 60 "$python" bench/gpu_launches.py bench/results/gpu-launches.json
step benchmarks $((LAST - SECONDS - COMPILED_SECONDS)) \
  "$python" -m pytest -q -p no:cacheprovider bench/bench_gpu.py --benchmark-only
step compiled "$COMPILED_SECONDS" "${tests[@]}" "$compiled"

"$python" bench/gpu_report.py bench/results/gpu-check.json "${steps[@]}"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The CUDA backend on a machine with a GPU: on_gpu.sh [build] [test] [sanitize] [bench] [examples], all of them without
# arguments.
#
# Builds into build/cuda with all cores; needs nvcc, cmake 3.25, g++ and the development files of Eigen, doctest and, for
# the benchmarks, Google Benchmark, and for the examples, which train for some minutes each, nlohmann-json, CLI11, zlib, libpng
# and their data; it downloads nothing. Everything that is printed goes into one report, too:
# ${OUT:-build/cuda/report}/report.txt, with a table of the stages at its end; beside it lie what the benchmarks measured,
# gpu.json, and their roofline, gpu_roofline.svg. A stage that fails does not stop the next;
# the exit status is then 1. From the environment:
#   JOBS                  how many compilers run at a time (all cores), TEST_JOBS how many tests (all cores), SANITIZE_JOBS
#                         how many programs under a tool (8)
#   LIGHTNET_CUDA_FLAGS   more arguments for cmake, such as -DCMAKE_CUDA_ARCHITECTURES=80-real
#   TEST_FILTER           which tests run, a regular expression for ctest (all of the label cuda, or cuda_examples)
#   TEST_SECONDS          how long one test may take (900), SANITIZE_SECONDS one program under one tool (400)
#   SANITIZE_TOOLS        the tools of compute-sanitizer (racecheck initcheck memcheck synccheck)
#   SANITIZE_PROGRAMS     which programs, by folder (all)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:/usr/local/cuda/bin
jobs=${JOBS:-$(nproc)}
build=$PWD/build/cuda
report_folder=${OUT:-$build/report}
mkdir -p "$build" "$report_folder" || exit 1
report=$report_folder/report.txt
: >"$report"

# --- Stages: each prints what it does; the last line of its file "verdict" is what the table says
say() { printf '%s\n' "$*"; }
verdict() { say "$*" >"$build/verdict"; }

# The folder of the build, with the examples ON or OFF.
configure() {
  # Ninja builds all targets at once, make one after another. A folder stays with what it was made for.
  generator=(Ninja -k 0)
  if grep -qs 'CMAKE_GENERATOR:INTERNAL=Unix Makefiles' "$build/CMakeCache.txt" || ! command -v ninja >/dev/null; then
    generator=("Unix Makefiles" -k)
  fi
  # shellcheck disable=SC2086
  cmake -S . -B "$build" -G "${generator[0]}" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PROJECT_TOP_LEVEL_INCLUDES= -DLIGHTNET_CUDA=ON \
    -DLIGHTNET_TESTS=ON -DLIGHTNET_EXAMPLES=$1 -DLIGHTNET_BENCHMARKS=$benchmarks -DLIGHTNET_NATIVE=ON \
    -DCMAKE_CUDA_ARCHITECTURES=90a-real ${LIGHTNET_CUDA_FLAGS-} || { verdict "cmake fails"; return 1; }
}

# -k, so that what does compile can be tested.
compile() {
  cmake --build "$build" -j "$jobs" --target "$@" -- "${generator[@]:1}" || { verdict "does not compile"; return 1; }
}

build() {
  local targets=(cuda_tests)
  [ $benchmarks = OFF ] || targets+=(bench_cuda lightnet_torch)
  configure OFF && compile "${targets[@]}" && verdict "built"
}

# Side by side on one GPU, programs wait for each other's turns far longer than they work; NVIDIA's multi-process service,
# where there is one, lets them run at once.
share_gpu() {
  command -v nvidia-cuda-mps-control >/dev/null && CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d) || return
  export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY=$CUDA_MPS_PIPE_DIRECTORY
  nvidia-cuda-mps-control -d || stop_sharing
}
stop_sharing() {
  [ -n "${CUDA_MPS_PIPE_DIRECTORY-}" ] || return
  say quit | nvidia-cuda-mps-control
  rm -rf "$CUDA_MPS_PIPE_DIRECTORY"
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
}

# The tests of a label, so many at a time, each at most so many seconds.
run_label() {
  ctest --test-dir "$build" -L "^$1\$" -R "${TEST_FILTER:-.}" -j "$2" --timeout "$3" --output-on-failure --no-tests=error |
    tee "$build/ctest.txt"
  local status=$? skipped
  skipped=$(grep -c '\*\*\*Skipped' "$build/ctest.txt")
  verdict "$(grep -E '[0-9]+% tests passed' "$build/ctest.txt" || say "no tests")${skipped:+, $skipped skipped}"
  return $status
}

run_tests() {
  share_gpu
  run_label cuda "${TEST_JOBS:-$(nproc)}" "${TEST_SECONDS:-900}"
  local status=$?
  stop_sharing
  return $status
}

# Three trainings of six minutes at most are the longest of these.
examples() { configure ON && compile cuda_examples && run_label cuda_examples 1 1200; }

# Which cases are small enough, of programs that take long even without a tool.
arguments_of() {
  case $1 in
    recurrence)
      say '--test-case=scan: the bits depend neither on strides*,scan: extents of zero,merge_states: the id*,long lines: o*,long lines: weights*,long lines: g*,dense heads: outputs*'
      ;;
    *) say '--test-case-exclude=*large*,*long*,full:*' ;;
  esac
}

sanitize_one() {
  local tool=$1 folder=$2 log=$build/sanitize_$1_$2.txt status result
  local flags=(--error-exitcode 99 --print-limit 20)
  [ "$tool" != memcheck ] || flags+=(--leak-check no)
  LIGHTNET_TEST_FEW=1 LIGHTNET_TEST_CASES='( float| bfloat16|^additive (causal|global) .* double|(decay|hgrn2) (causal|bidirectional) none 1 double)$' timeout "${SANITIZE_SECONDS:-400}" \
    compute-sanitizer --tool "$tool" "${flags[@]}" "$build/tests/cuda/test_${folder}_cuda" "$(arguments_of "$folder")" \
    >"$log" 2>&1
  status=$?
  if grep -qi 'device not supported' "$log"; then
    result='impossible: the tool does not support this device'
  elif [ $status = 124 ]; then
    result="out of time; so far $(grep -cE '^========= (Invalid|Uninit|Error|Warning|Barrier)' "$log") findings"
  else
    result="$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -1 | tr -d '=')"
    [ $status = 0 ] || result="$result, exit status $status"
  fi
  say "$tool $folder: ${result:-no summary}"
  [ $status = 0 ] || tail -60 "$log"
  return $status
}

sanitize() {
  command -v compute-sanitizer >/dev/null || { say "no compute-sanitizer"; verdict "impossible: no compute-sanitizer"; return 1; }
  local folders=${SANITIZE_PROGRAMS-} tool folder program
  if [ -z "$folders" ]; then
    for program in "$build"/tests/cuda/test_*_cuda; do
      folder=${program##*/test_}
      folders+=" ${folder%_cuda}"
    done
  fi
  for folder in $folders; do
    [ -x "$build/tests/cuda/test_${folder}_cuda" ] || { say "no program for $folder"; verdict "no program"; return 1; }
  done
  export -f sanitize_one arguments_of say
  export build
  for tool in ${SANITIZE_TOOLS:-racecheck initcheck memcheck synccheck}; do  # what takes longest comes first
    for folder in $folders; do say "$tool $folder"; done
  done | xargs -P "${SANITIZE_JOBS:-8}" -L 1 bash -c 'sanitize_one "$@"' - | tee "$build/sanitize.txt"
  local status=$?
  verdict "$(grep -cE ': +(ERROR|RACECHECK) SUMMARY: (0 errors|0 hazards)[^,]*(, 0[^,]*)*$' "$build/sanitize.txt") of \
$(grep -cE '^(memcheck|racecheck|initcheck|synccheck) ' "$build/sanitize.txt") without a finding"
  return $status
}

bench() {
  [ $benchmarks = ON ] || { verdict "skipped: there are no CUDA benchmarks"; return 0; }
  "$build/bench/bench_cuda" --benchmark_out="$report_folder/gpu.json" --benchmark_out_format=json ||
    { verdict "bench_cuda fails"; return 1; }
  python3 bench/roofline.py "$report_folder/gpu.json" "$report_folder/gpu_roofline.svg" || { verdict "no picture"; return 1; }
  if ! python3 -c 'import torch, fla' 2>/dev/null; then
    verdict "ran, without peers: python3 lacks torch or fla"
    return 0
  fi
  export LIGHTNET_TORCH=$build/bench/liblightnet_torch.so
  python3 bench/torch/operators_test.py || { verdict "the operators of PyTorch differ"; return 1; }
  python3 bench/torch/fla_layer_test.py || { verdict "fla's layer differs"; return 1; }
  python3 bench/torch/compare.py && verdict "ran, beside its peers"
}

# --- What runs
stages=("$@")
[ $# -gt 0 ] || stages=(build test sanitize bench examples)
benchmarks=OFF
[ ! -f bench/cuda/main.cu ] || benchmarks=ON
for stage in "${stages[@]}"; do
  case $stage in
    build | test | sanitize | bench | examples) ;;
    *) say "on_gpu.sh: no stage '$stage'; the stages are build, test, sanitize, bench, examples" >&2; exit 2 ;;
  esac
done

failed=0
table=""
{
  date -u '+%Y-%m-%d %H:%M UTC'
  command -v git >/dev/null && git log -1 --format='commit %h' 2>/dev/null
  nvcc --version 2>/dev/null | grep release || say "no nvcc"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || say "no nvidia-smi"
} | tee -a "$report"
for stage in "${stages[@]}"; do
  printf '\n=== %s\n' "$stage" | tee -a "$report"
  rm -f "$build/verdict"
  start=$SECONDS
  function=$stage
  [ "$stage" != test ] || function=run_tests
  "$function" 2>&1 | tee -a "$report"
  status=${PIPESTATUS[0]}
  word=passed
  if [ "$status" != 0 ]; then
    word=FAILED
    failed=1
  fi
  table+=$(printf '%-9s %6d s  %-7s %s' "$stage" $((SECONDS - start)) $word "$(cat "$build/verdict" 2>/dev/null)")$'\n'
done
printf '\n=== summary\n%s' "$table" | tee -a "$report"
exit $failed

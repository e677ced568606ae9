#!/bin/bash
# Everything that needs an NVIDIA GPU, once: builds the module for the card of this machine, runs
# the CUDA tests on it, runs them under compute-sanitizer where that is installed, measures E2B and
# E4B shaped files with and without their assistants, and writes one table.
#
#   tools/gpu_check.sh [OUT]        OUT: folder of the results, default build/gpu-check; the table
#                                   is OUT/gpu.md
#
#   PILLION_GPU_STEPS    which steps, default "build test sanitize bench table"
#   PILLION_GPU_SIZES    models to measure, default "e2b e4b" (2.6 and 4.4 GB of disk, made once)
#   PILLION_GPU_RUNS     processes of each measurement, default 3: their spread is in the table
#   PILLION_TEST_CUDA    "cuda:sim": a dry run on the emulation (make build), tiny models, no build,
#                        no sanitizer
#
# Exits with 1 and one sentence where there is no GPU, and with 1 when a step failed; the later
# steps still run.
set -uo pipefail
cd "$(dirname "$0")/.."

out=${1:-build/gpu-check}
device=${PILLION_TEST_CUDA:-cuda}
steps=${PILLION_GPU_STEPS:-build test sanitize bench table}
sizes=${PILLION_GPU_SIZES:-e2b e4b}
runs=${PILLION_GPU_RUNS:-3}
python=${PILLION_PYTHON:-.venv/bin/python}
cuda_bin=${CUDA_HOME:-/usr/local/cuda}/bin
PATH=$PATH:$cuda_bin
dry=; [ "$device" = cuda:sim ] && dry=1
export PILLION_TEST_CUDA=$device

# On one GPU or the emulation; those that need neither are in the ordinary suite.
suites="tests/cuda/test_cuda_ops.py tests/cuda/test_cuda_batches.py
        tests/cuda/test_cuda_matmul.py tests/cuda/test_cuda_memory.py
        tests/cuda/test_cuda_module.py tests/cuda/test_cuda_models.py
        tests/model/test_placement.py"
sanitized=tests/cuda/test_cuda_matmul.py    # runners; and below the ops, in Python

refuse() { echo "gpu_check: $1" >&2; exit 1; }
wants() { case " $steps " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
failed=()
step() {
    local name=$1
    echo "== $name"
    shift
    "$@" || { failed+=("$name"); echo "gpu_check: $name failed" >&2; }
}

if [ -z "$dry" ]; then
    tegra=; [ -e /etc/nv_tegra_release ] && tegra=1
    if ! nvidia-smi -L 2>/dev/null | grep -q . && [ -z "$tegra" ]; then
        refuse "the driver sees no NVIDIA GPU (nvidia-smi -L): nothing was run"
    fi
    command -v nvcc >/dev/null || refuse "nvcc is not installed ($cuda_bin): nothing was run"
fi
mkdir -p "$out"

build() {
    bash tools/system_packages.sh && make .venv/.ready &&
        .venv/bin/pip install --quiet --no-build-isolation --no-deps --editable . \
            -C build-dir=build/gpu -C cmake.define.PILLION_TESTING=ON \
            -C cmake.define.PILLION_CUDA=ON \
            -C cmake.define.CMAKE_CUDA_ARCHITECTURES="${PILLION_CUDA_ARCHITECTURES:-native}"
}

run_tests() {
    "$python" -m pytest -q -m "not slow" $suites ${PILLION_GPU_PYTEST:-} 2>&1 |
        tee "$out/test.log"
    return "${PIPESTATUS[0]}"
}

sanitize() {    # the tool
    local wrap="compute-sanitizer --tool $1 --error-exitcode 9 --print-limit 20"
    PILLION_CUDA_WRAP=$wrap "$python" -m pytest -q -m "not slow" $sanitized 2>&1 |
        tee "$out/sanitize-$1.log"
    local runners=${PIPESTATUS[0]}
    $wrap --target-processes all "$python" -m pytest -q -m "not slow" \
        tests/cuda/test_cuda_ops.py 2>&1 | tee -a "$out/sanitize-$1.log"
    return $((runners + PIPESTATUS[0]))
}

make_model() {    # the file and make_synthetic.py's words
    local file=$1
    shift
    [ -f "$file" ] && return
    "$python" benchmarks/make_synthetic.py "$file.part" "$@" >&2 && mv "$file.part" "$file"
}

models() {    # the size: prints the target and its assistant, made where they are missing
    local folder=build/gpu-models target assistant
    if [ -n "$dry" ]; then
        echo tests/golden/tiny-"$1".gguf tests/golden/tiny-"$1"-assistant.gguf
        return
    fi
    mkdir -p $folder
    target=$folder/$1.gguf assistant=$folder/$1-assistant.gguf
    make_model "$target" --size "$1" && make_model "$assistant" --size "$1" --assistant || return 1
    echo "$target" "$assistant"
}

bench() {    # the size: runs in turns, so that a drift of the machine meets all alike
    local n files target assistant long="-p 512 -n 128 -r 5"
    [ -n "$dry" ] && long="-p 8 -n 4 -r 1"
    files=$(models "$1") || return 1
    read -r target assistant <<<"$files"
    for n in $(seq "$runs"); do
        "$python" -m pillion bench -m "$target" -md none --device "$device" $long --json \
            >"$out/$1-plain-$n.json" || return 1
        "$python" -m pillion bench -m "$target" -md "$assistant" --device "$device" \
            --synthetic-accept 2.5 $long --json >"$out/$1-drafter-$n.json" || return 1
    done
}

card() {    # what the table says about the machine
    if [ -n "$dry" ]; then
        echo '{"card": "SIMT emulation, no GPU", "driver": "-", "toolkit": "-"}'
        return
    fi
    local name driver
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)
    [ -n "$name" ] || name=$(tr -d '\0' </proc/device-tree/model 2>/dev/null)
    [ -n "$driver" ] || driver=$(head -1 /etc/nv_tegra_release 2>/dev/null)
    "$python" - "$name" "$driver" "$(nvcc --version | tail -2 | head -1)" <<'PY'
import json, sys
print(json.dumps(dict(zip(("card", "driver", "toolkit"), sys.argv[1:]))))
PY
}

if [ -z "$dry" ] && wants build; then step build build; fi
if wants test; then step test run_tests; fi
if [ -z "$dry" ] && wants sanitize; then
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck synccheck; do
            step "compute-sanitizer $tool" sanitize $tool
        done
    else
        echo "gpu_check: compute-sanitizer is not installed; skipped"
    fi
fi
if wants bench; then for size in $sizes; do step "bench $size" bench "$size"; done; fi
if wants table; then
    card >"$out/card.json"
    step table "$python" tools/gpu_table.py "$out" --command "tools/gpu_check.sh" \
        --output "$out/gpu.md"
fi
[ ${#failed[@]} -eq 0 ] || refuse "failed: ${failed[*]}"
echo "gpu_check: all passed; $out/gpu.md"

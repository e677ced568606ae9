#!/bin/bash
# Everything that needs an NVIDIA GPU, once: builds the module for the card of this machine, runs
# the CUDA tests on it, runs them under compute-sanitizer where that is installed, measures E2B and
# E4B shaped files with and without their assistants, profiles one, and writes one table.
#
#   tools/gpu_check.sh [OUT]        OUT: folder of the results, default build/gpu-check; the table
#                                   is OUT/gpu.md
#
# It asks no network for anything, but in the step "wheels". The machine has cmake, ninja, nvcc and
# python3 with its headers. Python packages that it lacks come from a folder of wheels: run
#   PILLION_GPU_STEPS=wheels PILLION_GPU_PYTHON_VERSION=3.12 tools/gpu_check.sh
# where there is a network, and carry build/gpu-wheels along.
#
#   PILLION_GPU_STEPS    which steps; one at a time where a command may not take long. Default
#                        "build runner memcheck racecheck synccheck models ops memcheck_ops bench
#                        profile table"
#   PILLION_GPU_STEP_S   seconds that a command of a step may take, default 540; a build that did
#                        not end goes on when it is called again
#   PILLION_GPU_SIZES    models to measure, default "e2b e4b" (2.6 and 4.4 GB of disk, made once)
#   PILLION_GPU_RUNS     processes of each measurement, default 3: their spread is in the table
#   PILLION_CUDA_ARCHITECTURES   what to build for, default the card's
#   PILLION_PYTHON       default python3
#   PILLION_TEST_CUDA    "cuda:sim": a dry run on the emulation, tiny models, no sanitizer and no
#                        profile; the package is the one installed, unless "build" is a step
#
# Exits with 1 and one sentence where there is no GPU, and with 1 when a step failed; the later
# steps still run.
set -uo pipefail
cd "$(dirname "$0")/.."

out=${1:-build/gpu-check}
device=${PILLION_TEST_CUDA:-cuda}
dry=; [ "$device" = cuda:sim ] && dry=1
usual="build runner memcheck racecheck synccheck models ops memcheck_ops bench profile table"
[ -n "$dry" ] && usual="runner models bench table"
steps=${PILLION_GPU_STEPS:-$usual}
limit=${PILLION_GPU_STEP_S:-540}
sizes=${PILLION_GPU_SIZES:-e2b e4b}
runs=${PILLION_GPU_RUNS:-3}
python=${PILLION_PYTHON:-python3}
wheels=build/gpu-wheels
build=build/gpu; [ -n "$dry" ] && build=build/gpu-dry
cuda_bin=${CUDA_HOME:-/usr/local/cuda}/bin
PATH=$PATH:$cuda_bin
export PILLION_TEST_CUDA=$device

# On one GPU or the emulation; those that need neither are in the ordinary suite. The runners come
# first: they need no module, and decide all questions of fragments and decoding.
runner=tests/cuda/test_cuda_matmul.py
ops=tests/cuda/test_cuda_ops.py
suites="tests/cuda/test_cuda_models.py tests/cuda/test_cuda_batches.py
        tests/cuda/test_cuda_memory.py tests/cuda/test_cuda_module.py
        tests/model/test_placement.py"

refuse() { echo "gpu_check: $1" >&2; exit 1; }
wants() { case " $steps " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
has() {    # a tool of NVIDIA's that needs the card
    [ -z "$dry" ] && command -v "$1" >/dev/null && return
    echo "gpu_check: $1 is not installed, or this is a dry run: its step is skipped"
    return 1
}
failed=()
step() {
    local name=$1
    echo "== $name"
    shift
    "$@" || { failed+=("$name"); echo "gpu_check: $name failed" >&2; }
}

# Wheels are unpacked as they are: an image may have no pip.
fetch_wheels() {
    local version=${PILLION_GPU_PYTHON_VERSION:-3.12}
    "$python" -m pip download --quiet --dest $wheels --only-binary=:all: \
        --python-version "$version" --platform manylinux_2_28_x86_64 \
        --platform manylinux2014_x86_64 \
        cffi numpy jinja2 typer rich pytest pybind11 gguf
}
unpack_wheels() {
    [ -d $wheels ] || return 0
    "$python" - $wheels "$build/packages" <<'PY'
import pathlib, sys, zipfile
for wheel in sorted(pathlib.Path(sys.argv[1]).glob("*.whl")):
    zipfile.ZipFile(wheel).extractall(sys.argv[2])
PY
}
if [ "$steps" = wheels ]; then
    fetch_wheels || refuse "the wheels could not be fetched"
    echo "gpu_check: $(find $wheels -name '*.whl' | wc -l) wheels in $wheels"
    exit 0
fi

if [ -z "$dry" ]; then
    tegra=; [ -e /etc/nv_tegra_release ] && tegra=1
    if ! nvidia-smi -L 2>/dev/null | grep -q . && [ -z "$tegra" ]; then
        refuse "the driver sees no NVIDIA GPU (nvidia-smi -L): nothing was run"
    fi
    command -v nvcc >/dev/null || refuse "nvcc is not installed ($cuda_bin): nothing was run"
fi
mkdir -p "$out"
if [ -z "$dry" ] || wants build; then
    mkdir -p "$build/site"
    export PYTHONPATH=$PWD/$build/site:$PWD/$build/packages
fi

within_limit() {
    timeout "$limit" "$@"
    local status=$?
    [ $status -ne 124 ] || echo "gpu_check: not done after $limit s (PILLION_GPU_STEP_S)" >&2
    return $status
}

capability() {    # "9.0"
    [ -n "$tegra" ] && echo 8.7 && return
    nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1
}

# By cmake alone: scikit-build would have to be carried too.
build() {
    local cuda=SIM architectures=
    if [ -z "$dry" ]; then
        cuda=ON architectures=$(capability | tr -d .)-real
        architectures=-DCMAKE_CUDA_ARCHITECTURES=${PILLION_CUDA_ARCHITECTURES:-$architectures}
    fi
    unpack_wheels || return 1
    "$python" -c "import cffi, numpy, jinja2, typer, rich, pytest, pybind11, gguf" ||
        { echo "gpu_check: a Python package is missing, and not in $wheels" >&2; return 1; }
    cmake -S . -B "$build" -G Ninja -DPILLION_PYTHON=ON -DPILLION_TESTING=ON -DPILLION_RUN=OFF \
        -DPILLION_CUDA=$cuda $architectures -DPython_EXECUTABLE="$(command -v "$python")" &&
        within_limit cmake --build "$build" &&
        cp -r python/pillion "$build/site/" &&
        cmake --install "$build" --component python --prefix "$build/site" || return 1
    # An editable install of this interpreter would come first.
    "$python" -c "import pillion, sys; sys.exit(not pillion.__file__.startswith('$PWD/$build'))" ||
        { echo "gpu_check: $python imports another pillion than $build/site" >&2; return 1; }
    [ -n "$dry" ] ||
        "$python" tools/cuda_images.py "$build/libpillion_cuda.so" --for "$(capability)"
}

run_tests() {    # a name for the log, and the files
    local name=$1
    shift
    within_limit "$python" -m pytest -q -m "not slow and not nightly" "$@" \
        ${PILLION_GPU_PYTEST:-} 2>&1 | tee "$out/$name.log"
    return "${PIPESTATUS[0]}"
}

sanitize() {    # the tool: the runners under it
    PILLION_CUDA_WRAP="compute-sanitizer --tool $1 --error-exitcode 9 --print-limit 20" \
        run_tests "$1" $runner
}

sanitize_ops() {    # in Python, which takes long
    within_limit compute-sanitizer --tool memcheck --error-exitcode 9 --print-limit 20 \
        --target-processes all "$python" -m pytest -q -m "not slow and not nightly" $ops 2>&1 |
        tee "$out/memcheck-ops.log"
    return "${PIPESTATUS[0]}"
}

profile() {    # kernels of a few decode steps, by time
    local files target
    files=$(models "${sizes%% *}") || return 1
    read -r target _ <<<"$files"
    within_limit ncu --graph-profiling node --set full -c 60 -k 'regex:.*' -f -o "$out/profile" \
        "$python" -m pillion bench -m "$target" -md none --device "$device" -p 16 -n 4 -r 1 \
        2>&1 | tail -40 >"$out/profile.log"
    local status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || return "$status"
    ncu --import "$out/profile.ncu-rep" --page details >"$out/profile.txt"
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
        within_limit "$python" -m pillion bench -m "$target" -md none --device "$device" \
            $long --json >"$out/$1-plain-$n.json" || return 1
        within_limit "$python" -m pillion bench -m "$target" -md "$assistant" --device "$device" \
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

if wants build; then step build build; fi
if wants runner; then step runner run_tests runner $runner; fi
for tool in memcheck racecheck synccheck; do
    if wants $tool && has compute-sanitizer; then step $tool sanitize $tool; fi
done
if wants models; then step models run_tests models $suites; fi
if wants ops; then step ops run_tests ops $ops; fi
if wants memcheck_ops && has compute-sanitizer; then step memcheck_ops sanitize_ops; fi
if wants bench; then for size in $sizes; do step "bench $size" bench "$size"; done; fi
if wants profile && has ncu; then step profile profile; fi
if wants table; then
    card >"$out/card.json"
    step table "$python" tools/gpu_table.py "$out" --command "tools/gpu_check.sh" \
        --output "$out/gpu.md"
fi
[ ${#failed[@]} -eq 0 ] || refuse "failed: ${failed[*]}"
said="all passed"; wants table && said="$said; $out/gpu.md"
echo "gpu_check: $said"

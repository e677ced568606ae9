#!/bin/bash
# Coverage-guided fuzzing: builds the programs of tests/fuzz with clang's libFuzzer and both
# sanitizers, and runs each for a while.
#
#   tools/fuzz.sh [SECONDS [PROGRAM ...]]    SECONDS: of each program, default 60; PROGRAM:
#   fuzz_model and so on, default all
#
# Needs clang-14: apt-get install clang-14 libclang-rt-14-dev. What an input reached is kept in
# build/fuzz/corpus/PROGRAM and is where the next run begins; the first begins with 100 seeded
# inputs. An input that breaks something is left in build/fuzz/found/PROGRAM, and the exit code is
# 1; `build/fuzz/PROGRAM FILE` replays it.
#
# The matrix kernels of the vector tables are not instrumented (CMakeLists.txt), so the plain table
# runs: it gives the same bits.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
export PILLION_CPU_ISA=${PILLION_CPU_ISA:-generic}
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
all=$(basename -s .cpp tests/fuzz/*.cpp)
programs=${*:-$all}

cmake --preset fuzz >/dev/null
# shellcheck disable=SC2086
cmake --build --preset fuzz --target $programs
status=0
for program in $programs; do
    corpus=build/fuzz/corpus/$program found=build/fuzz/found/$program
    mkdir -p "$corpus" "$found"
    if [ -z "$(ls -A "$corpus")" ]; then
        python3 - "$corpus" <<'PYTHON'
import random, sys
for i in range(100):
    seeded = random.Random(i)
    open(f"{sys.argv[1]}/seed-{i}", "wb").write(seeded.randbytes(seeded.choice((16, 60, 200, 400))))
PYTHON
    fi
    longest=1000
    if [ "$program" = fuzz_gguf ]; then # the one that reads files as they are
        cp tests/golden/tiny-moe-assistant.gguf "$corpus"
        longest=150000
    fi
    echo "== $program"
    "build/fuzz/$program" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=3000 \
        -max_len=$longest -artifact_prefix="$found/" \
        -verbosity=0 -print_final_stats=1 "$corpus" 2>&1 |
        grep -v "^stat::\(new\|slowest\)" || status=1
done
exit $status

#!/bin/bash
# The library under the sanitizers: builds it with clang-14 and runs the Python suites that load it,
# one file at a time.
#
#   tools/sanitize.sh [address|thread] [TEST ...]    default: address, and all but the
#   chat page and emulated devices
#
# "address" is address and undefined behaviour, in the build of tools/fuzz.sh. Python itself is not
# built for it, so the runtime is preloaded and leaks are not looked for (the fuzz programs do
# that). "thread" is the thread sanitizer, in build/sanitize-thread. Exits with 1 when a test failed
# or a sanitizer spoke; what it said is in build/sanitize/report.*
#
#   PILLION_SANITIZE_OPTIONS    arguments of pytest, default: -m "not slow"
set -uo pipefail
cd "$(dirname "$0")/.."
kind=${1:-address}
shift || true
python=$PWD/.venv/bin/python
with="-DPILLION_PYTHON=ON -DPILLION_TESTING=ON -DPython_EXECUTABLE=$python"
case $kind in
    address) build=build/fuzz runtime=asan ;;
    thread)
        build=build/sanitize-thread runtime=tsan
        with="$with -DPILLION_SANITIZE=thread -DPILLION_FUZZ=OFF -B $build" ;;
    *) echo "usage: tools/sanitize.sh [address|thread] [TEST ...]" && exit 2 ;;
esac
tests=${*:-$(ls tests/*/test_*.py |
    grep -v -e cuda -e htp -e jetson -e gpu -e wheel -e real_models -e tests/page)}
[ -x "$python" ] || make build

# shellcheck disable=SC2086
cmake --preset fuzz $with >/dev/null && cmake --build $build --target _capi _testing || exit 1
site=$PWD/build/sanitize/site
rm -rf "$site" && mkdir -p "$site" && cp -r python/pillion "$site/" || exit 1
cp $build/_capi*.so $build/_testing*.so "$site/pillion/"

rm -f build/sanitize/report.*
# Options are for subprocesses too. The editable install must not come first, hence -S and the paths
# by hand.
report=$PWD/build/sanitize/report
export ASAN_OPTIONS=detect_leaks=0:log_path=$report:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$report
export TSAN_OPTIONS=log_path=$report:halt_on_error=0
packages=$($python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
preload=$(clang-14 -print-file-name=libclang_rt.$runtime-$(uname -m).so)
status=0
for test in $tests; do
    echo "== $test"
    LD_PRELOAD=$preload:$(gcc -print-file-name=libstdc++.so.6) PYTHONPATH=$site:$packages \
        $python -S -m pytest -q -p no:cacheprovider -p no:xdist \
        ${PILLION_SANITIZE_OPTIONS:--m "not slow"} "$test" 2>&1 | tail -n 12
    code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || [ "$code" = 5 ] || status=1
done
if ls build/sanitize/report.* >/dev/null 2>&1; then
    echo "== reports"
    grep -h -e "ERROR:" -e "WARNING: ThreadSanitizer" -e "runtime error:" build/sanitize/report.* |
        sort | uniq -c
    status=1
fi
exit $status

#!/bin/bash
# Puts pillion-run and models on a phone that adb sees, and runs what follows "--" there.
#
#   tools/android_push.sh MODEL.gguf [DRAFTER.gguf …] [-- OPTIONS of pillion-run]
#   tools/android_push.sh gemma4-e2b.gguf gemma4-e2b-assistant.gguf -- -p "Once upon a time" -n 64
#
# The first file becomes -m, the second -md. What is on the phone with the same size is not sent again. PILLION_RUN names another program
# than build/android-arm64/pillion-run, ANDROID_SERIAL another phone. PILLION_HTP_FOLDER: what lies there as libpillion_htp*.so goes along,
# for --device htp (docs/android.md).
set -euo pipefail
cd "$(dirname "$0")/.."

program=${PILLION_RUN:-build/android-arm64/pillion-run}
folder=/data/local/tmp/pillion
files=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do files+=("$1"); shift; done
[ $# -gt 0 ] && shift

[ ${#files[@]} -gt 0 ] || { sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 2; }
[ -x "$program" ] || { echo "error: $program is not built: make android" >&2; exit 1; }
command -v adb >/dev/null || { echo "error: adb is not installed (Android's platform tools)" >&2; exit 1; }
for file in "${files[@]}"; do [ -f "$file" ] || { echo "error: $file: no such file" >&2; exit 1; }; done

adb shell "mkdir -p $folder"
send() {
    local there
    there=$(adb shell "stat -c %s '$folder/$2' 2>/dev/null || true" | tr -d '\r')
    if [ "$there" != "$(stat -c %s "$1")" ]; then adb push "$1" "$folder/$2"; fi
}
send "$program" pillion-run
adb shell "chmod 755 $folder/pillion-run"
for file in "${files[@]}"; do send "$file" "$(basename "$file")"; done

for library in ${PILLION_HTP_FOLDER:+"$PILLION_HTP_FOLDER"/libpillion_htp*.so}; do send "$library" "$(basename "$library")"; done

[ $# -gt 0 ] || exit 0
models=(-m "$folder/$(basename "${files[0]}")")
[ ${#files[@]} -lt 2 ] || models+=(-md "$folder/$(basename "${files[1]}")")
adb shell "ADSP_LIBRARY_PATH=$folder $folder/pillion-run $(printf '%q ' "${models[@]}" "$@")"

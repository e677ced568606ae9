#!/bin/bash
# Puts pillion-run and models on a phone that adb sees, and runs what follows "--" there.
#
#   tools/android_push.sh MODEL.gguf [DRAFTER.gguf …] [-- OPTIONS of pillion-run]
#   tools/android_push.sh gemma4-e2b.gguf gemma4-e2b-assistant.gguf -- -p "Once upon a time" -n 64
#
# The first file becomes -m, the second -md. What is on the phone with the same size and time is not
# sent again. PILLION_RUN names another program than build/android-arm64/pillion-run, ANDROID_SERIAL
# one phone of several. PILLION_HTP_FOLDER: what lies there as libpillion_htp*.so goes along, for
# --device htp (docs/android.md). The exit status is pillion-run's; 1 also for what fails before it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
program=${PILLION_RUN:-$root/build/android-arm64/pillion-run}
folder=/data/local/tmp/pillion

fail() { echo "error: $*" >&2; exit 1; }

files=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do files+=("$1"); shift; done
[ $# -gt 0 ] && shift
[ ${#files[@]} -gt 0 ] || { sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 2; }
[ -x "$program" ] || fail "$program is not built: make android"
for file in "${files[@]}"; do [ -f "$file" ] || fail "$file: no such file"; done
libraries=()
if [ -n "${PILLION_HTP_FOLDER:-}" ]; then
    for library in "$PILLION_HTP_FOLDER"/libpillion_htp*.so; do
        [ -f "$library" ] || fail "there is no libpillion_htp*.so in $PILLION_HTP_FOLDER"
        libraries+=("$library")
    done
fi
command -v adb >/dev/null || fail "adb is not installed (Android's platform tools:" \
    "https://developer.android.com/tools/releases/platform-tools)"
state=$(adb get-state 2>&1 </dev/null) || case "$state" in
    *unauthorized*)
        fail "the phone does not trust this computer yet: unlock it and allow USB debugging" ;;
    *"more than one"*)
        fail "adb sees more than one phone: set ANDROID_SERIAL to one of these:" \
            "$(adb devices | awk 'NR > 1 && NF { printf "%s ", $1 }')" ;;
    *)
        fail "adb sees no phone: connect it, switch USB debugging on," \
            "look at \`adb devices\` ($state)" ;;
esac

on_phone() { adb shell "$1" </dev/null; }    # adb would read our stdin
stamp() { stat -c '%s %Y' "$@" 2>/dev/null || stat -f '%z %m' "$@"; }    # macOS has another stat

# Under another name until it is whole: nothing runs from half a file.
send() {
    local at there
    at=$(printf '%q' "$folder/$2")
    there=$(on_phone "stat -c '%s %Y' $at 2>/dev/null || true" | tr -d '\r')
    [ "$there" != "$(stamp "$1")" ] || return 0
    if adb push "$1" "$folder/$2.part" </dev/null && on_phone "mv -f $at.part $at"; then
        return 0
    fi
    on_phone "rm -f $at.part" || true
    fail "$1 did not get to the phone; room there:" \
        "$(on_phone "df -h $folder | tail -n 1" | awk '{ print $4 }')"
}

on_phone "mkdir -p $folder" || fail "$folder can't be made on the phone"
send "$program" pillion-run
on_phone "chmod 755 $folder/pillion-run"
for file in "${files[@]}" "${libraries[@]+"${libraries[@]}"}"; do
    send "$file" "$(basename "$file")"
done

[ $# -gt 0 ] || exit 0
models=(-m "$folder/$(basename "${files[0]}")")
[ ${#files[@]} -lt 2 ] || models+=(-md "$folder/$(basename "${files[1]}")")
words=$(printf '%q ' "${models[@]}" "$@")
adb shell "cd $folder && ADSP_LIBRARY_PATH=$folder ./pillion-run $words"
